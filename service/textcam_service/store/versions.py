"""Versions of artefacts by name under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/...            what it holds
    <root>/<name>/<version>/served.json    a server took it
    <root>/<name>/current.json             the version to serve, and those that were current before

What a version holds, and when it is there as a whole, the store of each kind knows: store.py for
banks, model_store.py for models.
"""

from __future__ import annotations

import json
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import fsspec

from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactMissing,
    InvalidSettings,
    StoreFailed,
    TextCamError,
)

list_of = list  # VersionStore.list shadows the builtin in its own body
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")
_POINTER = "current.json"
_SERVED = "served.json"


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store."""

    name: str
    version: str
    current: bool


@dataclass(frozen=True)
class Pointer:
    """Which version of a name is current.

    Attributes:
        version: The current one.
        history: Those that were current before it, the last one last; servers may have refused
            some of them.
        accept_drift: Whether a server is to take it however its explanations drift.
    """

    version: str
    history: tuple[str, ...] = ()
    accept_drift: bool = False


def reaching(method: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Tell what a file system raises, whichever it is, as StoreFailed."""

    @wraps(method)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        try:
            return method(*args, **kwargs)
        except TextCamError:
            raise
        except Exception as error:
            store = args[0]
            assert isinstance(store, VersionStore)  # noqa: S101 - it decorates methods only
            raise StoreFailed(
                f"the store {store.root} failed ({type(error).__name__}: {error}); look to its "
                "address, its credentials and the room on its disk"
            ) from error

    return told


class VersionStore(ABC):
    """Lists versions and says which is current, whatever a version holds.

    One publisher per name at a time; any number of readers.

    Attributes:
        root: As given.
        place: The same, whole: a folder's absolute path, or a URL.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a store.

        Args:
            root: A folder or an fsspec URL ("memory://banks", "s3://bucket/banks").

        Raises:
            InvalidSettings: There is no such kind of store, or its package is not installed.
        """
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(root))
        except (ImportError, ValueError) as error:
            raise InvalidSettings(f"the store {root} cannot be opened: {error}") from error
        self.root = str(root)
        self.place = self._fs.unstrip_protocol(self._root).removeprefix("file://")

    @abstractmethod
    def _complete(self, name: str, version: str) -> bool:
        """Whether a version is there as a whole."""

    @reaching
    def names(self) -> tuple[str, ...]:
        """Names under which something is, or was to be, published."""
        return tuple(sorted(self._children(self._root)))

    @reaching
    def current(self, name: str) -> Pointer | None:
        """Which version of a name is current; None: the name has none.

        Raises:
            ArtefactCorrupt: Its current.json is none.
        """
        return self._pointer(name)

    @reaching
    def list(self, name: str | None = None) -> tuple[StoredVersion, ...]:
        """List versions, of one name or of all, in order of name and version.

        Raises:
            ArtefactCorrupt: A current.json is none.
        """
        names = self._children(self._root) if name is None else [checked_name(name)]
        found: list_of[StoredVersion] = []
        for each in sorted(names):
            pointer = self._pointer(each)
            found += [
                StoredVersion(each, version, pointer is not None and version == pointer.version)
                for version in sorted(self._children(self._path(each)))
                if self._complete(each, version)
            ]
        return tuple(found)

    @reaching
    def use(self, name: str, version: str, *, accept_drift: bool = False) -> None:
        """Make a version current.

        Args:
            name: Of the model.
            version: One that is there.
            accept_drift: See Pointer.

        Raises:
            ArtefactMissing: It is not there.
        """
        self._point_to(name, self._chosen(name, version), accept_drift)

    @reaching
    def roll_back(self, name: str) -> str:
        """Make the version current that was so before, and return it; see before().

        Raises:
            ArtefactMissing: There is none.
        """
        pointer = self._pointer(name)
        if pointer is None and name not in self._children(self._root):
            raise self.nothing(name)
        before = self._before(name, pointer)
        if before is None:
            raise ArtefactMissing(f"{name} has no version to roll back to in {self._root}")
        self._point(name, before)
        return before.version

    @reaching
    def before(self, name: str, pointer: Pointer) -> tuple[str, ...]:
        """Versions that were current before and are there yet, the last first.

        Where servers marked any of these as served, those alone: the others were refused, or gave
        way before a server saw them. A store without marks holds no such knowledge.
        """
        others = dict.fromkeys(reversed(pointer.history))
        whole = [version for version in others if self._complete(name, version)]
        served = [version for version in whole if self._was_served(name, version)]
        return tuple(version for version in served or whole if version != pointer.version)

    @reaching
    def mark_served(self, name: str, version: str) -> None:
        """Say for good that a server took a version, also where others say it at the same time."""
        if not self._was_served(name, version):
            self._fs.pipe_file(self._path(name, f"{version}/{_SERVED}"), b"{}")

    def _was_served(self, name: str, version: str) -> bool:
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name, f"{version}/{_SERVED}")))

    def _before(self, name: str, pointer: Pointer | None) -> Pointer | None:
        """What a roll-back points to; None: there is nothing."""
        before = self.before(name, pointer) if pointer else ()
        if pointer is None or not before:
            return None
        last = max(place for place, each in enumerate(pointer.history) if each == before[0])
        # It was served already: nobody who rolls back is to be refused.
        return Pointer(before[0], pointer.history[:last], accept_drift=True)

    @reaching
    def nothing(self, name: str | None = None) -> ArtefactMissing:
        """The error of a store without a version, or without one of a name; says what it has."""
        if name is None:
            return ArtefactMissing(f"nothing is published in {self.place}")
        held = ", ".join(sorted(self._children(self._root))) or "nothing"
        return ArtefactMissing(
            f"no version of '{name}' is published, or current, in {self.place}; it holds {held}"
        )

    def _chosen(self, name: str, version: str | None) -> str:
        """The version that is meant, if it is there."""
        pointer = None if version else self._pointer(name)
        chosen = checked_name(version) if version else pointer and pointer.version
        if not chosen:
            raise self.nothing(name)
        if not self._complete(name, chosen):
            held = ", ".join(found.version for found in self.list(name)) or "no version"
            raise ArtefactMissing(
                f"{name}@{chosen} is not, or not whole, in {self._root}; it holds {held}"
            )
        return chosen

    def _pointer(self, name: str) -> Pointer | None:
        """What current.json says; None where there is none."""
        path = self._path(name, _POINTER)
        self._fs.invalidate_cache()
        if not self._fs.exists(path):
            return None
        try:
            said = json.loads(self._fs.cat_file(path))
            return Pointer(
                checked_name(said["version"]),
                tuple(checked_name(version) for version in said["history"]),
                bool(said.get("accept_drift", False)),
            )
        except (ValueError, KeyError, TypeError, InvalidSettings) as error:
            raise ArtefactCorrupt(
                f"{path} does not name a version: {error}; remove it and publish again"
            ) from error

    def _point_to(self, name: str, version: str, accept_drift: bool = False) -> None:
        """Make a version current, and remember the one that was."""
        was = self._pointer(name)
        history = was.history if was else ()
        if was and was.version != version:
            history = (*history, was.version)
        self._point(name, Pointer(version, history, accept_drift))

    def _point(self, name: str, pointer: Pointer) -> None:
        content = {"version": pointer.version, "history": pointer.history}
        accepted = {"accept_drift": True} if pointer.accept_drift else {}
        self._write(self._path(name, _POINTER), json.dumps({**content, **accepted}).encode())

    def _write(self, target: str, content: bytes) -> None:
        """Write a file at once: a reader finds the old one or the new one."""
        folder, _, leaf = target.rpartition("/")
        staging = f"{folder}/.{leaf}.{uuid.uuid4().hex}"
        try:
            self._fs.pipe_file(staging, content)
            self._fs.mv(staging, target)
        except BaseException:
            self._remove(staging)
            raise

    def _remove(self, path: str) -> None:
        self._fs.invalidate_cache()
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def _forget(self, name: str, version: str) -> None:
        """Remove what a failed publication left, unless it is current."""
        pointer = self._pointer(name)
        if pointer is None or pointer.version != version:
            self._remove(self._path(name, version))

    def _children(self, path: str) -> list_of[str]:
        """Names of the folders in a folder that can be names; none where it is not there."""
        self._fs.invalidate_cache()
        if not self._fs.exists(path):
            return []
        names = [
            entry["name"].rstrip("/").rsplit("/", 1)[-1]
            for entry in self._fs.ls(path, detail=True)
            if entry["type"] == "directory"
        ]
        return [name for name in names if _NAME.match(name)]

    def _path(self, name: str, leaf: str = "") -> str:
        return f"{self._root}/{checked_name(name)}/{leaf}".rstrip("/")


def checked_name(name: str) -> str:
    """A name or version that can be a folder's.

    Raises:
        InvalidSettings: It cannot.
    """
    if not _NAME.match(name) or name == _POINTER:
        raise InvalidSettings(
            f"'{name}' is no name: letters, digits, '.', '_' and '-', not beginning with '.', "
            f"and not '{_POINTER}'"
        )
    return name
