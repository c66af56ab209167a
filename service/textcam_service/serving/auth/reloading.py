"""Files that are read again when they change: certificates, keys, callers."""

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
_LOOK_EVERY_S = 1.0
T = TypeVar("T")


async def watch(*looks: Callable[[], None]) -> None:
    """Look for ever, each second: also where nobody calls, what is broken is to be known."""
    while True:
        for look in looks:
            await asyncio.to_thread(look)
        await asyncio.sleep(_LOOK_EVERY_S)


class ReloadEvents(Protocol):
    """Told of each reload."""

    def on_reload(self, what: str, read: bool) -> None:
        """Files changed; `read`: they serve from now on, else the old ones stay."""


class ReloadingFiles(Generic[T]):
    """What some files say together; what they said before, where they are broken.

    The content decides, not the times of the files: volumes and copies keep those. Files that do
    not fit together yet, as when a certificate is written before its key, are asked again.

    Args:
        what: Its name in the log and the metrics.
        paths: The files.
        parse: Of their contents, in that order; a ValueError says what is wrong with them. Its
            message must hold nothing secret: it is logged. Of other errors the kind alone is.
        events: Told of each change.

    Raises:
        InvalidSettings: The files are unreadable or broken to begin with.
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
        # gRPC asks for certificates from threads of its own.
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        try:
            self._seen: tuple[bytes, ...] | str = self._read()
            self._value = self._parsed(self._seen)
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"the {what} cannot be used: {error}") from error

    def get(self) -> T:
        """The newest that is whole; never fails, and looks once a second at most."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_EVERY_S:
                self._look()
            return self._value

    def look(self) -> None:
        """Look now; never fails."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
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
            _log.error("the changed %s cannot be used, the old one stays: %s", self._what, error)
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
            # Libraries raise more than they say; what they say may quote the files.
            raise ValueError(f"it cannot be parsed ({type(error).__name__})") from error

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)
