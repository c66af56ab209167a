"""Versions of banks under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/{bank,vocabulary}.{safetensors,json}
    <root>/<name>/current.json     the served version, and those that were served before it

A version is visible once all its files lie under its own name: they are uploaded under a
temporary one and moved, and where a file system moves file by file, a half moved version
is none.
"""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from textcam_service.bank import BankArtefact, read_bank
from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactError,
    ArtefactMissing,
    InvalidSettings,
    VersionExists,
)

list_of = list  # BankStore.list shadows the builtin in its own body
FILES = ("bank.json", "bank.safetensors", "vocabulary.json", "vocabulary.safetensors")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")
_POINTER = "current.json"


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store."""

    name: str
    version: str
    current: bool


class BankStore:
    """Publishes, lists, loads, verifies and rolls back banks.

    One publisher per name at a time; any number of readers.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a store.

        Args:
            root: A folder or an fsspec URL ("memory://banks", "s3://bucket/banks").
        """
        self._fs, self._root = fsspec.core.url_to_fs(str(root))

    def list(self, name: str | None = None) -> tuple[StoredVersion, ...]:
        """List versions, of one name or of all, in order of name and version.

        Raises:
            ArtefactCorrupt: A current.json is none.
        """
        names = self._children(self._root) if name is None else [_checked(name)]
        found: list_of[StoredVersion] = []
        for each in sorted(names):
            current = self._pointer(each).get("version")
            found += [
                StoredVersion(each, version, version == current)
                for version in sorted(self._children(self._path(each)))
                if self._complete(each, version)
            ]
        return tuple(found)

    def publish(self, name: str, folder: Path, version: str | None = None) -> str:
        """Verify a bank folder, upload it and make it current.

        Args:
            name: Of the model.
            folder: As write_bank wrote it.
            version: None or empty: the first 12 digits of the bank's digest.

        Returns:
            The version.

        Raises:
            VersionExists: It is there already.
            ArtefactError: The folder is not sound.
        """
        digest = read_bank(folder).bank_digest.removeprefix("sha256:")
        version = _checked(version or digest[:12])
        target = self._path(name, version)
        pointer = self._pointer(name)
        if self._complete(name, version):
            raise VersionExists(f"{name}@{version} is published already; choose another version")
        self._remove(target)  # what a publisher that was killed half-way left there
        staging = self._path(name, f".{version}.{uuid.uuid4().hex}")
        history = [*pointer["history"], pointer["version"]] if pointer else []
        try:
            self._fs.makedirs(staging, exist_ok=True)
            for file in FILES:
                self._fs.put_file(str(folder / file), f"{staging}/{file}")
            self._fs.mv(staging, target, recursive=True)
            self._point(name, version, history)
        except BaseException:
            self._remove(staging)
            if self._pointer(name).get("version") != version:
                self._remove(target)
            raise
        return version

    def load(self, name: str, version: str | None = None) -> BankArtefact:
        """Load and verify a version; None or empty: the current one.

        Raises:
            ArtefactError: Not there, or not sound.
        """
        chosen = self._chosen(name, version)
        source = self._path(name, chosen)
        if isinstance(self._fs, LocalFileSystem):
            return read_bank(Path(source))
        with tempfile.TemporaryDirectory() as folder:
            self.fetch(name, chosen, Path(folder))
            try:
                return read_bank(Path(folder))
            except ArtefactError as error:
                # The user's files are those in the store, not the passing copy.
                raise type(error)(str(error).replace(folder, source)) from error

    def verify(self, name: str, version: str | None = None) -> None:
        """Check a version; None or empty: the current one.

        Raises:
            ArtefactError: Not there, or not sound.
        """
        self.load(name, version)

    def fetch(self, name: str, version: str | None, to: Path) -> Path:
        """Copy a version (None or empty: the current one) into a local folder.

        Returns:
            The folder.

        Raises:
            ArtefactMissing: Not there.
        """
        source = self._path(name, self._chosen(name, version))
        to.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            self._fs.get_file(f"{source}/{file}", str(to / file))
        return to

    def roll_back(self, name: str) -> str:
        """Make the version current that was so before, and return it.

        Versions that were removed from the store since are passed over.

        Raises:
            ArtefactMissing: There is none.
        """
        history = self._pointer(name).get("history", [])
        while history:
            *history, version = history
            if self._complete(name, version):
                self._point(name, version, history)
                return str(version)
        raise ArtefactMissing(f"{name} has no version to roll back to in {self._root}")

    def _chosen(self, name: str, version: str | None) -> str:
        """The version that is meant, if it is there."""
        chosen = _checked(version) if version else self._pointer(name).get("version")
        if chosen is None:
            raise ArtefactMissing(f"no bank of the name '{name}' is published in {self._root}")
        if not self._complete(name, chosen):
            held = ", ".join(found.version for found in self.list(name)) or "no version"
            raise ArtefactMissing(
                f"{name}@{chosen} is not, or not whole, in {self._root}; it holds {held}"
            )
        return str(chosen)

    def _complete(self, name: str, version: str) -> bool:
        self._fs.invalidate_cache()
        return all(self._fs.exists(f"{self._path(name, version)}/{file}") for file in FILES)

    def _pointer(self, name: str) -> dict[str, Any]:
        """What current.json says; empty where there is none."""
        path = self._path(name, _POINTER)
        self._fs.invalidate_cache()
        if not self._fs.exists(path):
            return {}
        try:
            pointer = json.loads(self._fs.cat_file(path))
            return {
                "version": _checked(pointer["version"]),
                "history": [_checked(version) for version in pointer["history"]],
            }
        except (ValueError, KeyError, TypeError, InvalidSettings) as error:
            raise ArtefactCorrupt(
                f"{path} does not name a version: {error}; remove it and publish again"
            ) from error

    def _point(self, name: str, version: str, history: list_of[str]) -> None:
        target = self._path(name, _POINTER)
        staging = self._path(name, f".{_POINTER}.{uuid.uuid4().hex}")
        content = json.dumps({"version": version, "history": history}).encode()
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
        return f"{self._root}/{_checked(name)}/{leaf}".rstrip("/")


def _checked(name: str) -> str:
    if not _NAME.match(name) or name == _POINTER:
        raise InvalidSettings(
            f"'{name}' is no name: letters, digits, '.', '_' and '-', not beginning with '.', "
            f"and not '{_POINTER}'"
        )
    return name
