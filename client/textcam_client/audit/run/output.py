"""Output folder of an audit: one process at a time, one audit for ever."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.description import (
    NAME,
    Description,
    read_description,
    write_description,
)

_RUN = "run.json"
_REMEDY = "choose another folder, or delete this one to begin again"


class OutputFolder:
    """Output folder.

    Args:
        path: The folder; made if it is missing.

    Attributes:
        path: The folder.
        segments: Folder of the finished records, while the audit runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work = path / ".work"
        self.segments = self._work / "segments"
        self._lock_file = self._work / "lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; leave nothing behind if no audit was begun.

        Raises:
            OutputRefused: Another process is at work in it, or it holds files that are no audit.
            OSError: It cannot be made or written.
        """
        if self.path.is_dir() and not self._is_ours() and any(self.path.iterdir()):
            raise OutputRefused(
                f"the folder {self.path} holds other files: choose an empty or a new folder"
            )
        handle = self._lock()
        try:
            yield
        finally:
            if _is_at(self._lock_file, handle) and not (self._work / _RUN).is_file():
                self.clean()
            os.close(handle)

    def finished(self) -> Description | None:
        """Return the audit that is finished here; None: there is none."""
        return _read(self.path / NAME)

    def begun(self) -> Description | None:
        """Return the audit that was begun here; None: there is none."""
        return _read(self._work / _RUN)

    def begin(self, description: Description) -> None:
        """Note the audit that begins here; raises OSError."""
        write_description(self._work / _RUN, description)

    def finish(self, description: Description) -> None:
        """Note that the audit is finished; raises OSError."""
        write_description(self.path / NAME, description)

    def clean(self) -> None:
        """Remove what only a run needs; the lock last, as another process then takes the folder."""
        shutil.rmtree(self.segments, ignore_errors=True)
        with suppress(OSError):
            for path in set(self._work.iterdir()) - {self._lock_file}:
                path.unlink()
            self._lock_file.unlink()
            self._work.rmdir()

    def _is_ours(self) -> bool:
        return self._work.is_dir() or (self.path / NAME).is_file()

    def _lock(self) -> int:
        while True:
            try:
                self._work.mkdir(parents=True, exist_ok=True)
                handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except (FileNotFoundError, FileExistsError):
                if self._work.is_file() or not self.path.is_dir():
                    raise
                continue  # its holder has just removed the folder
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                raise OutputRefused(
                    f"another process audits into {self.path}: wait for its end, or choose another "
                    "folder"
                ) from error
            if _is_at(self._lock_file, handle):
                self.segments.mkdir(exist_ok=True)
                return handle
            os.close(handle)  # its holder has removed it on finishing


def require_apart(folder: Path, data: str) -> None:
    """Raise OutputRefused if a folder lies in the folder of a data set.

    Args:
        folder: The output folder.
        data: Path or URL of the data set.
    """
    images = Path(data.removeprefix("file://"))
    if images.is_dir() and folder.resolve().is_relative_to(images.resolve()):
        raise OutputRefused(
            f"the folder {folder} lies in the data set {data}, whose images its thumbnails would "
            "join: choose a folder outside"
        )


def require_same(folder: Path, earlier: Description, now: Description) -> None:
    """Raise OutputRefused if a folder's audit has other data, another model or other settings."""
    if (earlier.data.fingerprint, earlier.data.rows) != (now.data.fingerprint, now.data.rows):
        raise OutputRefused(
            f"{folder} holds an audit of other data: {earlier.data.rows} rows of "
            f"{earlier.data.name}, not these {now.data.rows} rows of {now.data.name} with their "
            f"labels and slices; {_REMEDY}"
        )
    if earlier.model.title != now.model.title:
        raise OutputRefused(
            f"{folder} holds an audit of the model {earlier.model.title}, not of "
            f"{now.model.title}; name its version to go on with it (--version "
            f"{earlier.model.version}), {_REMEDY}"
        )
    for part in ("backbone_digest", "bank_digest", "vocabulary_digest"):
        own, other = getattr(earlier.model, part), getattr(now.model, part)
        if own != other:
            raise OutputRefused(
                f"{folder} holds an audit of another {now.model.title}: its "
                f"{part.removesuffix('_digest')} was {own} and is now {other}; {_REMEDY}"
            )
    for name, value in now.settings.items():
        if earlier.settings.get(name) != value:
            raise OutputRefused(
                f"{folder} holds an audit with {name} {earlier.settings.get(name)}, not {value}; "
                f"{_REMEDY}"
            )


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _read(path: Path) -> Description | None:
    try:
        return read_description(path)
    except FileNotFoundError:
        return None
