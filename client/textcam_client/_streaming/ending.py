"""How a streamed run ended: one that was broken off is not to look like one that is done."""

from __future__ import annotations

import threading
from types import TracebackType

from textcam_client.errors import Cancelled, TextCamClientError


class Ending:
    """Entered by a run for as long as it lasts.

    Attributes:
        complete: Whether every answer was handed out.
        closed: Set from any thread where the answers are wanted no more.
    """

    def __init__(self) -> None:
        self.complete = False
        self.closed = threading.Event()
        self._interruption = ""

    def __enter__(self) -> Ending:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Who closes a generator wants no more of it; an error of this package has told the end.
        told = (GeneratorExit, TextCamClientError)
        if kind is not None and not self.complete and not issubclass(kind, told):
            self._interruption = kind.__name__

    def require_open(self) -> None:
        """Raise Cancelled where the run was closed while someone waits for it."""
        if self.closed.is_set():
            raise Cancelled("this run was closed while it was waited for")

    def require_whole(self) -> None:
        """Raise Cancelled where the run was interrupted: there is no going on with it."""
        if self._interruption:
            raise Cancelled(
                f"this run was interrupted ({self._interruption}) before its last answer; images "
                "without an answer have to be explained anew"
            )
