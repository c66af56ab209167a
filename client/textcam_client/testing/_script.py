"""The part of the in-memory server that tests control: failures, latency, counts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_client.testing._checks import Refused

Latency: TypeAlias = float | Callable[[pb.ExplainRequest], float]


class Script:
    """Failures that a test asked for, and counts of what came in.

    Attributes:
        requests: Every ExplainRequest that came, in order, those that failed included.
        streams: How many streams were opened.
        open_streams: How many are open now.
        peak_in_flight: The most requests that were in work at once.
        latency: Seconds before each answer, or a function of the request that says so.
    """

    def __init__(self, latency: Latency) -> None:
        self.requests: list[pb.ExplainRequest] = []
        self.streams = 0
        self.open_streams = 0
        self.peak_in_flight = 0
        self.latency = latency
        self._in_flight = 0
        self._failures: deque[Refused] = deque()
        self._breaks: deque[tuple[int, Refused]] = deque()
        self._lock = threading.Lock()

    def fail_with(
        self,
        code: str | grpc.StatusCode,
        reason: str,
        *,
        times: int = 1,
        message: str = "scripted failure",
        retry_after: float | None = None,
        violations: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Let the next `times` requests, calls or items of a stream, fail.

        Args:
            code: A gRPC status code, or its name.
            reason: Of the error's ErrorInfo.
            times: How many; several scripts queue up.
            message: The error's message.
            retry_after: Seconds for the error's RetryInfo; None: it has none.
            violations: (field, description) of the error's BadRequest.
        """
        failure = Refused(_code(code), reason, message, tuple(violations))
        failure.retry_after = retry_after
        self._failures.extend([failure] * times)

    def break_stream(
        self,
        code: str | grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        *,
        after: int = 0,
        times: int = 1,
    ) -> None:
        """Let each of the next `times` streams end with `code` after `after` answers.

        OK ends it in order, answered or not.
        """
        breach = Refused(_code(code), "", "scripted end of the stream")
        self._breaks.extend([(after, breach)] * times)

    # What follows is called by the server's threads.

    def _begin(self, request: pb.ExplainRequest) -> float:
        """Record a request; raises the failure that is its turn; returns its latency."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
        return self.latency if isinstance(self.latency, (int, float)) else self.latency(request)

    def _end(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _raise_scripted(self) -> None:
        with self._lock:
            failure = self._failures.popleft() if self._failures else None
        if failure is not None:
            raise failure

    def _stream_opened(self) -> tuple[int, Refused] | None:
        with self._lock:
            self.streams += 1
            self.open_streams += 1
            return self._breaks.popleft() if self._breaks else None

    def _stream_closed(self) -> None:
        with self._lock:
            self.open_streams -= 1


def _code(code: str | grpc.StatusCode) -> Any:
    return grpc.StatusCode[code] if isinstance(code, str) else code
