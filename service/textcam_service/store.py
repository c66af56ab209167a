"""Versions of banks under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/{bank,vocabulary}.{safetensors,json}
    <root>/<name>/current.json     the served version, and those that were served before it

A version is visible once its files lie under its own name: they are uploaded under a
temporary one and moved.
"""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from textcam_service.bank import BankArtefact, read_bank
from textcam_service.errors import ArtefactMissing, InvalidSettings, VersionExists

list_of = list  # BankStore.list shadows the builtin in its own body
FILES = ("bank.json", "bank.safetensors", "vocabulary.json", "vocabulary.safetensors")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True)
class StoredVersion:
    """A version in a store."""

    name: str
    version: str
    current: bool


class BankStore:
    """Publishes, lists, loads, verifies and rolls back banks."""

    def __init__(self, root: str | Path) -> None:
        """Open a store.

        Args:
            root: A folder or an fsspec URL ("memory://banks", "s3://bucket/banks").
        """
        self._fs, self._root = fsspec.core.url_to_fs(str(root))

    def list(self, name: str | None = None) -> tuple[StoredVersion, ...]:
        """List versions, of one name or of all, in order of name and version."""
        names = [_checked(name)] if name else self._children(self._root)
        found: list_of[StoredVersion] = []
        for each in sorted(names):
            current = self._pointer(each).get("version")
            found += [
                StoredVersion(each, version, version == current)
                for version in sorted(self._children(f"{self._root}/{each}"))
            ]
        return tuple(found)

    def publish(self, name: str, folder: Path, version: str = "") -> str:
        """Verify a bank folder, upload it and make it current.

        Args:
            name: Of the model.
            folder: As write_bank wrote it.
            version: Empty: the first 12 digits of the bank's digest.

        Returns:
            The version.

        Raises:
            VersionExists: It is there already.
            ArtefactError: The folder is not sound.
        """
        digest = read_bank(folder).bank_digest.removeprefix("sha256:")
        version = _checked(version or digest[:12])
        target = self._path(name, version)
        if self._fs.exists(target):
            raise VersionExists(f"{name}@{version} is published already; choose another version")
        staging = self._path(name, f".{version}.{uuid.uuid4().hex}", checked=False)
        try:
            self._fs.makedirs(staging, exist_ok=True)
            for file in FILES:
                self._fs.put_file(str(folder / file), f"{staging}/{file}")
            self._fs.mv(staging, target, recursive=True)
        except BaseException:
            if self._fs.exists(staging):
                self._fs.rm(staging, recursive=True)
            raise
        pointer = self._pointer(name)
        history = pointer.get("history", [])
        if pointer:
            history = [*history, pointer["version"]]
        self._point(name, {"version": version, "history": history})
        return version

    def load(self, name: str, version: str = "") -> BankArtefact:
        """Load and verify a version; empty: the current one.

        Raises:
            ArtefactError: Not there, or not sound.
        """
        with tempfile.TemporaryDirectory() as folder:
            return read_bank(self.fetch(name, Path(folder) / "bank", version))

    def verify(self, name: str, version: str = "") -> None:
        """Check a version; empty: the current one.

        Raises:
            ArtefactError: Not there, or not sound.
        """
        self.load(name, version)

    def fetch(self, name: str, folder: Path, version: str = "") -> Path:
        """Copy a version into a local folder, and return the folder.

        Raises:
            ArtefactMissing: Not there.
        """
        chosen = _checked(version or self._current(name))
        source = self._path(name, chosen)
        folder.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            try:
                self._fs.get_file(f"{source}/{file}", str(folder / file))
            except FileNotFoundError as error:  # noqa: PERF203 - four files
                raise ArtefactMissing(
                    f"{name}@{chosen} lacks {file} in {self._root}; it holds "
                    f"{', '.join(found.version for found in self.list(name)) or 'no version'}"
                ) from error
        return folder

    def roll_back(self, name: str) -> str:
        """Make the version current that was so before, and return it.

        Raises:
            ArtefactMissing: There is none.
        """
        pointer = self._pointer(name)
        if not pointer.get("history"):
            raise ArtefactMissing(f"{name} has no version to roll back to in {self._root}")
        *history, version = pointer["history"]
        self._point(name, {"version": version, "history": history})
        return str(version)

    def _current(self, name: str) -> str:
        pointer = self._pointer(name)
        if not pointer:
            raise ArtefactMissing(f"no bank of the name '{name}' is published in {self._root}")
        return str(pointer["version"])

    def _pointer(self, name: str) -> dict[str, Any]:
        path = self._path(name, "current.json")
        return dict(json.loads(self._fs.cat_file(path))) if self._fs.exists(path) else {}

    def _point(self, name: str, pointer: dict[str, Any]) -> None:
        with self._moved(self._path(name, "current.json")) as staging:
            self._fs.pipe_file(staging, json.dumps(pointer).encode())

    @contextmanager
    def _moved(self, target: str) -> Iterator[str]:
        staging = f"{target}.{uuid.uuid4().hex}"
        yield staging
        self._fs.mv(staging, target)

    def _children(self, path: str) -> list_of[str]:
        """Names of the visible folders in a folder; none where it is not there."""
        if not self._fs.exists(path):
            return []
        self._fs.invalidate_cache()
        entries = self._fs.ls(path, detail=True)
        names = [
            entry["name"].rstrip("/").rsplit("/", 1)[-1]
            for entry in entries
            if entry["type"] == "directory"
        ]
        return [name for name in names if not name.startswith(".")]

    def _path(self, name: str, leaf: str, *, checked: bool = True) -> str:
        return f"{self._root}/{_checked(name)}/{_checked(leaf) if checked else leaf}"


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise InvalidSettings(
            f"'{name}' is no name: letters, digits, '.', '_' and '-', not beginning with '.'"
        )
    return name
