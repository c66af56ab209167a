"""Versions of artefacts by name under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/...            the version's files
    <root>/<name>/<version>/served.json    a server took it
    <root>/<name>/current.json             the current version, and those that were current before

The store of each kind defines the files of a version, and when it is complete: banks.py and
models.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from textcam_service.errors import ArtefactMissing, StoreFailed, TextCamError
from textcam_service.store.filesystem import exists, folders, open_filesystem, remove, write_whole
from textcam_service.store.names import POINTER, checked_name, is_name
from textcam_service.store.pointers import Pointer

list_of = list  # VersionStore.list shadows the builtin in its own body
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_SERVED = "served.json"


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store."""

    name: str
    version: str
    current: bool


def store_errors(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a store's method: errors of any file system become StoreFailed."""

    @wraps(method)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except TextCamError:
            raise
        except Exception as error:
            store = args[0]
            assert isinstance(store, VersionStore)  # noqa: S101 - it decorates methods only
            raise StoreFailed(
                f"the store {store.root} failed ({type(error).__name__}: {error}); check its "
                "address, its credentials and the free space on its disk"
            ) from error

    return wrapped


class VersionStore(ABC):
    """Versions under names, and the current version of each name.

    One publisher per name at a time; any number of readers.

    Attributes:
        root: The root as given.
        location: The root in full: a folder's absolute path, or a URL.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a store.

        Args:
            root: A folder or an fsspec URL ("memory://banks", "s3://bucket/banks").

        Raises:
            InvalidSettings: The URL's scheme is unknown, or its package is not installed.
        """
        self._fs, self._root = open_filesystem(root)
        self.root = str(root)
        self.location = self._fs.unstrip_protocol(self._root).removeprefix("file://")

    @abstractmethod
    def _is_complete(self, name: str, version: str) -> bool:
        """Return True if all of a version is there."""

    @store_errors
    def names(self) -> tuple[str, ...]:
        """List the names under which a version is, or was to be, published."""
        return tuple(sorted(self._folders(self._root)))

    @store_errors
    def current(self, name: str) -> Pointer | None:
        """Read the current version of a name; None if it has none.

        Raises:
            ArtefactCorrupt: Its current.json does not name a version.
        """
        return self._pointer(name)

    @store_errors
    def list(self, name: str | None = None) -> tuple[StoredVersion, ...]:
        """List versions, of one name or of all, in order of name and version.

        Raises:
            ArtefactCorrupt: A current.json does not name a version.
        """
        names = self._folders(self._root) if name is None else [checked_name(name)]
        versions: list_of[StoredVersion] = []
        for each in sorted(names):
            pointer = self._pointer(each)
            versions += [
                StoredVersion(each, version, pointer is not None and version == pointer.version)
                for version in sorted(self._folders(self._path(each)))
                if self._is_complete(each, version)
            ]
        return tuple(versions)

    @store_errors
    def use(self, name: str, version: str, *, accept_drift: bool = False) -> None:
        """Make a version current.

        Args:
            name: Name of the model.
            version: One of its versions.
            accept_drift: See Pointer.

        Raises:
            ArtefactMissing: The version is not there.
        """
        self._set_current(name, self._resolve(name, version), accept_drift)

    @store_errors
    def roll_back(self, name: str) -> str:
        """Make the previous version current again, and return it; see previous().

        Raises:
            ArtefactMissing: There is no previous version.
        """
        pointer = self._pointer(name)
        if pointer is None and name not in self._folders(self._root):
            raise self.not_found(name)
        target = self._rollback_target(name, pointer)
        if target is None:
            raise ArtefactMissing(f"{name} has no version to roll back to in {self._root}")
        self._write_pointer(name, target)
        return target.version

    @store_errors
    def previous(self, name: str, pointer: Pointer) -> tuple[str, ...]:
        """List complete versions that were current before, the latest first.

        If servers marked any of them as served, only those are listed: servers refused the others,
        or never saw them. In a store without marks, all are listed.
        """
        others = dict.fromkeys(reversed(pointer.history))
        complete = [version for version in others if self._is_complete(name, version)]
        served = [version for version in complete if self._was_served(name, version)]
        return tuple(version for version in served or complete if version != pointer.version)

    @store_errors
    def mark_served(self, name: str, version: str) -> None:
        """Record that a server took a version; safe where several servers do so at a time."""
        if not self._was_served(name, version):
            self._fs.pipe_file(self._path(name, f"{version}/{_SERVED}"), b"{}")

    @store_errors
    def not_found(self, name: str | None = None) -> ArtefactMissing:
        """Make the error for a store without versions, or without one of a name."""
        if name is None:
            return ArtefactMissing(f"nothing is published in {self.location}")
        held = ", ".join(sorted(self._folders(self._root))) or "nothing"
        return ArtefactMissing(
            f"no version of '{name}' is published, or current, in {self.location}; it holds {held}"
        )

    def _was_served(self, name: str, version: str) -> bool:
        return exists(self._fs, self._path(name, f"{version}/{_SERVED}"))

    def _rollback_target(self, name: str, pointer: Pointer | None) -> Pointer | None:
        """Return the pointer that a roll-back writes; None if there is no previous version."""
        previous = self.previous(name, pointer) if pointer else ()
        return pointer.rolled_back_to(previous[0]) if pointer and previous else None

    def _resolve(self, name: str, version: str | None) -> str:
        """Return the given version, or the current one, if it is complete."""
        pointer = None if version else self._pointer(name)
        chosen = checked_name(version) if version else pointer and pointer.version
        if not chosen:
            raise self.not_found(name)
        if not self._is_complete(name, chosen):
            held = ", ".join(found.version for found in self.list(name)) or "no version"
            raise ArtefactMissing(
                f"{name}@{chosen} is missing, or incomplete, in {self._root}; it holds {held}"
            )
        return chosen

    def _pointer(self, name: str) -> Pointer | None:
        path = self._path(name, POINTER)
        if not exists(self._fs, path):
            return None
        return Pointer.from_json(self._fs.cat_file(path), path)

    def _set_current(self, name: str, version: str, accept_drift: bool = False) -> None:
        """Make a version current, and keep the one before in the history."""
        old = self._pointer(name)
        new = Pointer(version, accept_drift=accept_drift)
        self._write_pointer(name, old.followed_by(version, accept_drift) if old else new)

    def _write_pointer(self, name: str, pointer: Pointer) -> None:
        write_whole(self._fs, self._path(name, POINTER), pointer.to_json())

    def _discard(self, name: str, version: str) -> None:
        """Remove the rest of a failed publication, unless it is current."""
        pointer = self._pointer(name)
        if pointer is None or pointer.version != version:
            remove(self._fs, self._path(name, version))

    def _folders(self, path: str) -> list_of[str]:
        """List folders in a folder that are names of models or versions."""
        return [name for name in folders(self._fs, path) if is_name(name)]

    def _path(self, name: str, leaf: str = "") -> str:
        return f"{self._root}/{checked_name(name)}/{leaf}".rstrip("/")
