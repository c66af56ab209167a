"""Script of the in-memory server, set by tests: failures, latency, counts."""

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
    """Failures that a test requests, and counts of requests and streams.

    Attributes:
        requests: Every ExplainRequest received, in order, including those that failed.
        streams: Number of streams opened so far.
        open_streams: Number of streams open now.
        peak_in_flight: Largest number of requests in work at once.
        latency: Seconds before each response, or a function of the request that returns them.
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
        """Make the next `times` requests fail, calls and items of streams alike.

        Args:
            code: A gRPC status code, or its name.
            reason: Reason in the error's ErrorInfo.
            times: Number of requests; further scripts follow it.
            message: The error's message.
            retry_after: Seconds in the error's RetryInfo; None: no RetryInfo.
            violations: (field, description) in the error's BadRequest.
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
        """End each of the next `times` streams with `code` after `after` responses.

        OK ends a stream in order, even if items have no response.
        """
        breach = Refused(_code(code), "", "scripted end of the stream")
        self._breaks.extend([(after, breach)] * times)

    # The server's threads call the methods below.

    def _begin(self, request: pb.ExplainRequest) -> float:
        """Record a request, and return its latency."""
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
