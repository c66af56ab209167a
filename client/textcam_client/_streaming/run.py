"""The part of a streamed run that does no I/O, which both clients share."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeAlias

from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert.requests import Prepare
from textcam_client._streaming.ending import RunState
from textcam_client._streaming.window import Outcome, Window
from textcam_client.errors import CallError, TextCamClientError, Unavailable

Event: TypeAlias = pb.ExplainStreamResponse | CallError

# A response that is arriving gets in before its deadline is checked.
_SHORTEST_WAIT = 0.02
_LONGEST_WAIT = 3600.0
STREAM_ENDED = "STREAM_ENDED"


class RunBase:
    """Window and state of one `explain_many`; StreamRun and AsyncStreamRun add the I/O.

    Args:
        prepare: Turns an image into a request.
        window: The run's items.

    Attributes:
        state: State of the run: complete, closed or interrupted.
    """

    def __init__(self, prepare: Prepare, window: Window) -> None:
        self._prepare = prepare
        self._window = window
        self._exhausted = False
        self._failure: Exception | None = None
        # Held here and not in a local variable, which would keep the result alive.
        self._ready: deque[Outcome] = deque()
        self.state = RunState()

    def _finish_images(self, failure: Exception | None = None) -> None:
        """Record that no image follows; `failure` is raised after the last outcome."""
        self._exhausted, self._failure = True, failure

    def _complete(self) -> None:
        """Record that every outcome was handed out; raise what the images' iterable raised."""
        self.state.complete = True
        if self._failure is not None:
            raise self._failure

    def _seconds_to_wait(self) -> float:
        """Return the longest time to wait for an event."""
        wait = self._window.seconds_to_next(time.monotonic())
        return min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT)

    def _handle(self, event: Event | None) -> bool:
        """Apply an event of the stream to the window; None: no event came in time.

        Returns:
            True if the stream has ended and is to be closed.

        Raises:
            Cancelled: The run was closed.
        """
        self.state.require_open()
        now = time.monotonic()
        if isinstance(event, CallError):
            self._window.broken(event, now)
            return True
        if event is None:
            self._window.expire(now)
        else:
            self._window.receive(event, now)
        return False


def hand_over(outcome: Any, *, raise_errors: bool) -> Any:
    """Return an item's outcome, or raise it if it is an error and `raise_errors` is set."""
    if raise_errors and isinstance(outcome, TextCamClientError):
        try:
            raise outcome
        finally:
            # The error's traceback holds this frame, which would hold the error.
            del outcome
    return outcome


def stream_ended() -> Unavailable:
    """Build the error of a stream that the server ended in order, but too early."""
    return Unavailable("the server ended the stream before its last response", reason=STREAM_ENDED)


@contextlib.contextmanager
def paused(window: Window) -> Iterator[None]:
    """Stop the items' clocks while a run waits for its caller or an image."""
    start = time.monotonic()
    try:
        yield
    finally:
        window.postpone(time.monotonic() - start)
