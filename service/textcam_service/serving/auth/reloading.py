"""Files that are read again when they change: certificates, keys and callers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from textcam_service.errors import InvalidSettings

_log = logging.getLogger(__name__)
_POLL_EVERY_S = 1.0
T = TypeVar("T")


async def watch(*polls: Callable[[], None]) -> None:
    """Call each function once a second until cancelled, so that faults show without any call."""
    while True:
        for poll in polls:
            await asyncio.to_thread(poll)
        await asyncio.sleep(_POLL_EVERY_S)


class ReloadEvents(Protocol):
    """Callbacks for reloaded files."""

    def on_reload(self, what: str, read: bool) -> None:
        """Called when files changed.

        Args:
            what: Name of the files.
            read: True if the new content is used, False if the old content stays.
        """


class ReloadingFiles(Generic[T]):
    """Parsed content of files that are re-read on change; keeps the last valid version.

    Changes are found by content, because volumes and copies may keep modification times. Files that
    do not match yet, such as a certificate written before its key, are read again later.

    Args:
        what: Name of the files in the log and the metrics.
        paths: The files.
        parse: Called with the files' contents in that order; raises ValueError if they are not
            valid. Its message is logged and must hold no secret. Of other errors only the type is
            logged.
        events: Callbacks for each change.

    Raises:
        InvalidSettings: The files are unreadable or not valid at the start.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        parse: Callable[..., T],
        events: ReloadEvents,
    ) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._parse = parse
        self._events = events
        # gRPC requests certificates from threads of its own.
        self._lock = threading.Lock()
        self._polled = time.monotonic()
        try:
            self._seen: tuple[bytes, ...] | str = self._read()
            self._value = self._parsed(self._seen)
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"the {what} is not usable: {error}") from error

    def get(self) -> T:
        """Return the last valid version; never raises, and polls at most once a second."""
        with self._lock:
            if time.monotonic() - self._polled >= _POLL_EVERY_S:
                self._poll()
            return self._value

    @property
    def current(self) -> T:
        """Last valid version, without a look at the files."""
        return self._value

    def poll(self) -> None:
        """Check the files now; never raises."""
        with self._lock:
            self._poll()

    def _poll(self) -> None:
        self._polled = time.monotonic()
        found: tuple[bytes, ...] | str
        try:
            found = self._read()
        except OSError as error:
            found = str(error)
        if found == self._seen:
            return
        self._seen = found
        try:
            if isinstance(found, str):
                raise ValueError(found)
            self._value = self._parsed(found)
        except ValueError as error:
            _log.error("the changed %s is not usable, the old one stays: %s", self._what, error)
            self._events.on_reload(self._what, read=False)
        else:
            _log.info("the %s changed and was read again", self._what)
            self._events.on_reload(self._what, read=True)

    def _parsed(self, contents: tuple[bytes, ...]) -> T:
        try:
            return self._parse(*contents)
        except ValueError:
            raise
        except Exception as error:
            # Libraries raise undocumented errors; their messages may quote the files.
            raise ValueError(f"it cannot be parsed ({type(error).__name__})") from error

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)
