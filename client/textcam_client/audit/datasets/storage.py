"""Files of a data set: local paths, and URLs of any file system that fsspec knows."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec

from textcam_client.audit.errors import DataSetError


class Storage(Protocol):
    """File system, as far as data sets need it. Places are full paths or URLs."""

    def is_folder(self, place: str) -> bool:
        """Return True for a folder."""

    def is_file(self, place: str) -> bool:
        """Return True for a file."""

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Return (name, is a folder) of everything in a folder, sorted by name."""

    def join(self, folder: str, path: str) -> str:
        """Return the place of a path relative to a folder; a full place stays as it is."""

    def open(self, place: str) -> BinaryIO:
        """Open a file for reading; raises OSError."""

    def read(self, place: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`; raises OSError."""


def storage_of(place: str) -> Storage:
    """Return the file system that a path or URL belongs to.

    Raises:
        DataSetError: No installed file system knows the URL's scheme.
    """
    if "://" not in place:
        return LocalStorage()
    try:
        return RemoteStorage(place)
    except (ImportError, ValueError) as error:
        raise DataSetError(f"cannot read {place}: {error}") from error


class LocalStorage:
    """The machine's own file system."""

    def is_folder(self, place: str) -> bool:
        """Return True for a folder."""
        return Path(place).is_dir()

    def is_file(self, place: str) -> bool:
        """Return True for a file."""
        return Path(place).is_file()

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Return (name, is a folder) of everything in a folder, sorted by name."""
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_dir()) for entry in found)

    def join(self, folder: str, path: str) -> str:
        """Return the place of a path relative to a folder; a full path stays as it is."""
        return str(Path(folder, path))

    def open(self, place: str) -> BinaryIO:
        """Open a file for reading; raises OSError."""
        path = Path(place)
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # Opening a pipe waits for its writer, and a device may have no end.
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, no file", place)
        return path.open("rb")

    def read(self, place: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`; raises OSError."""
        with self.open(place) as file:
            if start is None or end is None:
                return file.read()
            file.seek(start)
            return file.read(end - start)


class RemoteStorage:
    """File system behind a URL.

    Args:
        url: Any URL of it.
    """

    def __init__(self, url: str) -> None:
        self._system: Any = fsspec.core.url_to_fs(url)[0]

    def is_folder(self, place: str) -> bool:
        """Return True for a folder."""
        return bool(self._system.isdir(place))

    def is_file(self, place: str) -> bool:
        """Return True for a file."""
        return bool(self._system.isfile(place))

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Return (name, is a folder) of everything in a folder, sorted by name."""
        own = self._system._strip_protocol(folder).rstrip("/")
        found = [
            (str(entry["name"]).rstrip("/").rpartition("/")[2], entry["type"] == "directory")
            for entry in self._system.ls(folder, detail=True)
            if str(entry["name"]).rstrip("/") != own
        ]
        return sorted(found)

    def join(self, folder: str, path: str) -> str:
        """Return the place of a path relative to a folder; a full URL stays as it is."""
        return path if "://" in path else f"{folder.rstrip('/')}/{path}"

    def open(self, place: str) -> BinaryIO:
        """Open a file for reading; raises OSError."""
        return cast(BinaryIO, self._system.open(place, "rb"))

    def read(self, place: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`; raises OSError."""
        return bytes(self._system.cat_file(place, start=start, end=end))
