"""Versions of banks under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/{bank,vocabulary}.{safetensors,json}
    <root>/<name>/current.json     the current version, and those that were current before

A version is visible once all its files are under its own name: they are uploaded under a temporary
name and then moved. If a file system moves file by file, a half moved version is incomplete and
does not count. Versions of whole models: models.py.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from textcam_service.artefacts.bank import FILES, BankArtefact, read_bank
from textcam_service.artefacts.files import file_digests, version_of
from textcam_service.errors import ArtefactError, VersionExists
from textcam_service.store.filesystem import exists, remove
from textcam_service.store.names import checked_name
from textcam_service.store.versions import VersionStore, store_errors


class BankStore(VersionStore):
    """Store of banks: publish, list, load, verify and roll back their versions."""

    @store_errors
    def publish(self, name: str, folder: Path, version: str | None = None) -> str:
        """Verify a bank folder, upload it and make it current.

        Args:
            name: Name of the model.
            folder: Folder written by write_bank.
            version: None or empty: version_of bank and vocabulary.

        Returns:
            The version.

        Raises:
            VersionExists: The store has the version.
            ArtefactError: A file of the folder is missing or corrupt.
        """
        read_bank(folder)
        content_version = version_of(file_digests({file: folder / file for file in FILES}))
        remedy = "choose another version" if version else "it holds the same"
        version = checked_name(version or content_version)
        target = self._path(name, version)
        self._pointer(name)  # raises, if it cannot be read, before any file is written
        if self._is_complete(name, version):
            raise VersionExists(f"{name}@{version} is published already; {remedy}")
        remove(self._fs, target)  # the rest of a publication that was killed
        staging = self._path(name, f".{version}.{uuid.uuid4().hex}")
        try:
            self._fs.makedirs(staging, exist_ok=True)
            for file in FILES:
                self._fs.put_file(str(folder / file), f"{staging}/{file}")
            self._fs.mv(staging, target, recursive=True)
            self._set_current(name, version)
        except BaseException:
            remove(self._fs, staging)
            self._discard(name, version)
            raise
        return version

    @store_errors
    def load(self, name: str, version: str | None = None) -> BankArtefact:
        """Load and verify a version; None or empty: the current one.

        Raises:
            ArtefactError: The version is missing or corrupt.
        """
        chosen = self._resolve(name, version)
        source = self._path(name, chosen)
        if isinstance(self._fs, LocalFileSystem):
            return read_bank(Path(source))
        with tempfile.TemporaryDirectory() as folder:
            self.fetch(name, chosen, Path(folder))
            try:
                return read_bank(Path(folder))
            except ArtefactError as error:
                # Name the files in the store, not those of the temporary copy.
                raise type(error)(str(error).replace(folder, source)) from error

    def verify(self, name: str, version: str | None = None) -> None:
        """Check a version; None or empty: the current one.

        Raises:
            ArtefactError: The version is missing or corrupt.
        """
        self.load(name, version)

    @store_errors
    def fetch(self, name: str, version: str | None, to: Path) -> Path:
        """Copy a version (None or empty: the current one) into a local folder.

        Returns:
            The folder.

        Raises:
            ArtefactMissing: The version is not there.
        """
        source = self._path(name, self._resolve(name, version))
        to.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            self._fs.get_file(f"{source}/{file}", str(to / file))
        return to

    def _is_complete(self, name: str, version: str) -> bool:
        folder = self._path(name, version)
        return all(exists(self._fs, f"{folder}/{file}") for file in FILES)
