"""State of a streamed run: one that was broken off is not to look like one that is done."""

from __future__ import annotations

import threading
from types import TracebackType

from textcam_client.errors import Cancelled, TextCamClientError


class RunState:
    """State of a run, entered for as long as the run lasts.

    Attributes:
        complete: Whether every answer was handed out.
        closed: Set from any thread if the answers are wanted no more.
    """

    def __init__(self) -> None:
        self.complete = False
        self.closed = threading.Event()
        self._interruption = ""

    def __enter__(self) -> RunState:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A generator is closed on purpose, and an error of this package says how the run ended.
        expected = (GeneratorExit, TextCamClientError)
        if kind is not None and not self.complete and not issubclass(kind, expected):
            self._interruption = kind.__name__

    def require_open(self) -> None:
        """Raise Cancelled if the run was closed while it was waited for."""
        if self.closed.is_set():
            raise Cancelled("this run was closed while it was waited for")

    def require_whole(self) -> None:
        """Raise Cancelled if the run was interrupted: it cannot go on."""
        if self._interruption:
            raise Cancelled(
                f"this run was interrupted ({self._interruption}) before its last answer; images "
                "without an answer have to be explained anew"
            )
