"""State of a streamed run: complete, closed or interrupted."""

from __future__ import annotations

import threading
from types import TracebackType

from textcam_client.errors import Cancelled, TextCamClientError


class RunState:
    """State of a run; a context manager around the run.

    It makes sure that an interrupted run does not look complete.

    Attributes:
        complete: True once every outcome was handed out.
        closed: Set, from any thread, if the caller needs no more results.
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
        # Closing a generator is deliberate, and errors of this package explain the end themselves.
        expected = (GeneratorExit, TextCamClientError)
        if kind is not None and not self.complete and not issubclass(kind, expected):
            self._interruption = kind.__name__

    def require_open(self) -> None:
        """Raise Cancelled if the run was closed during a wait."""
        if self.closed.is_set():
            raise Cancelled("this run was closed while the caller waited for a result")

    def require_whole(self) -> None:
        """Raise Cancelled if the run was interrupted, because it cannot continue."""
        if self._interruption:
            raise Cancelled(
                f"this run was interrupted ({self._interruption}) before its last result; "
                "explain the images without a result in a new run"
            )
