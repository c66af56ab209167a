"""Versions of banks under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/{bank,vocabulary}.{safetensors,json}
    <root>/<name>/current.json     the served version, and those that were served before it

A version is visible once all its files lie under its own name: they are uploaded under a
temporary one and moved, and where a file system moves file by file, a half moved version
is none. Versions of whole models: model_store.py.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from textcam_service.artefacts.bank import FILES, BankArtefact, read_bank
from textcam_service.artefacts.files import file_digests, version_of
from textcam_service.errors import ArtefactError, VersionExists
from textcam_service.store.versions import VersionStore, checked_name, reaching


class BankStore(VersionStore):
    """Publishes, lists, loads, verifies and rolls back banks."""

    @reaching
    def publish(self, name: str, folder: Path, version: str | None = None) -> str:
        """Verify a bank folder, upload it and make it current.

        Args:
            name: Of the model.
            folder: As write_bank wrote it.
            version: None or empty: that of bank and vocabulary, see version_of.

        Returns:
            The version.

        Raises:
            VersionExists: It is there already.
            ArtefactError: The folder is not sound.
        """
        read_bank(folder)
        own = version_of(file_digests({file: folder / file for file in FILES}))
        mend = "choose another version" if version else "it holds the same"
        version = checked_name(version or own)
        target = self._path(name, version)
        self._pointer(name)  # one that cannot be read is told before anything is written
        if self._complete(name, version):
            raise VersionExists(f"{name}@{version} is published already; {mend}")
        self._remove(target)  # what a publisher that was killed half-way left there
        staging = self._path(name, f".{version}.{uuid.uuid4().hex}")
        try:
            self._fs.makedirs(staging, exist_ok=True)
            for file in FILES:
                self._fs.put_file(str(folder / file), f"{staging}/{file}")
            self._fs.mv(staging, target, recursive=True)
            self._point_to(name, version)
        except BaseException:
            self._remove(staging)
            self._forget(name, version)
            raise
        return version

    @reaching
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

    @reaching
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

    def _complete(self, name: str, version: str) -> bool:
        self._fs.invalidate_cache()
        return all(self._fs.exists(f"{self._path(name, version)}/{file}") for file in FILES)
