"""Versions of whole models under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/backbone/...  bank/...  canary/...
    <root>/<name>/<version>/bundle.json    the digest of each of these files; written last
    <root>/<name>/<version>/removed.json   the same, once the version is being removed
    <root>/<name>/<version>/served.json    a server took it
    <root>/<name>/current.json             the current version, and those that were current before

Backbone, bank and vocabulary travel as one. A version exists while its bundle.json does: one
object, which every kind of store writes and removes at once. Files of a version are never written
again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from textcam_service.artefacts.bundle import bundle_files
from textcam_service.artefacts.files import (
    canonical_json,
    file_digests,
    replaced_folder,
    sha256,
    version_of,
)
from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactMissing,
    InvalidSettings,
    VersionExists,
    VersionInUse,
)
from textcam_service.imaging.formats import SUFFIXES
from textcam_service.model.bundle import ModelBundle
from textcam_service.store.cache import cache_errors, full_disk_errors, locked, prune
from textcam_service.store.filesystem import exists, remove, write_whole
from textcam_service.store.manifest import (
    CANARY,
    MANIFEST,
    PARTS,
    read_manifest,
    verify_files,
    write_manifest,
)
from textcam_service.store.names import checked_name
from textcam_service.store.versions import VersionStore, store_errors

_REMOVED = "removed.json"


class ModelStore(VersionStore):
    """Store of models: publish, list, fetch, roll back and remove their versions."""

    @store_errors
    def publish(
        self,
        name: str,
        backbone: Path,
        bank: Path,
        version: str = "",
        *,
        canary: Path | None = None,
        use: bool = True,
        accept_drift: bool = False,
    ) -> str:
        """Verify a bundle, upload it and make it current.

        Args:
            name: Name of the model.
            backbone: Folder of the backbone.
            bank: Folder of the bank and its vocabulary.
            version: Empty: version_of the files, the canary's included.
            canary: Folder of images that a server explains with the old version and the new one;
                None: the server renders scenes.
            use: If True, the version becomes current.
            accept_drift: See Pointer.

        Returns:
            The version.

        Raises:
            VersionExists: The store has the version.
            ArtefactError: A file is missing or corrupt, the parts do not match, or the store
                fails.
            InvalidSettings: The canary's folder holds no image.
        """
        ModelBundle.load(name, backbone, bank)
        sources = _published_files(backbone, bank, canary)
        digests = file_digests(sources)
        version = checked_name(version or version_of(digests))
        self._pointer(name)  # raises, if it cannot be read, before any file is written
        if self._is_complete(name, version):
            raise VersionExists(
                f"{name}@{version} is published already; make it current (`textcam model use`), or "
                "choose another version"
            )
        target = self._path(name, version)
        remove(self._fs, target)  # the rest of a publication that was killed
        try:
            for folder in {path.partition("/")[0] for path in sources}:
                self._fs.makedirs(f"{target}/{folder}", exist_ok=True)
            for path, source in sources.items():
                self._fs.put_file(str(source), f"{target}/{path}")
            write_whole(self._fs, f"{target}/{MANIFEST}", write_manifest(digests))
            if use:
                self._set_current(name, version, accept_drift)
        except BaseException:
            self._discard(name, version)
            raise
        return version

    @store_errors
    def fetch(self, name: str, version: str, cache: Path) -> Path:
        """Verify a version, and copy it to this machine if it is not there.

        Args:
            name: Name of the model.
            version: One of its versions.
            cache: Folder for copies of a remote store, by name and digest.

        Returns:
            The folder that holds backbone/, bank/ and, where published with one, canary/.

        Raises:
            ArtefactMissing: The version is not in the store.
            ArtefactCorrupt: A file does not have its digest.
            StoreFailed: The store, or the cache's disk, fails.
        """
        source = self._path(name, self._resolve(name, version))
        path = f"{source}/{MANIFEST}"
        digests = read_manifest(self._fs.cat_file(path), path)
        if isinstance(self._fs, LocalFileSystem):
            verify_files(Path(source), digests)
            return Path(source)
        digest = sha256(canonical_json(digests)).removeprefix("sha256:")
        copy = cache / checked_name(name) / digest
        with cache_errors(cache), locked(copy.parent):
            if copy.is_dir():
                try:
                    verify_files(copy, digests)
                except (ArtefactCorrupt, ArtefactMissing):
                    pass  # the copy is at fault, not the store: replace it
                else:
                    return copy
            with replaced_folder(copy, PARTS) as staging:
                for path in digests:
                    (staging / path).parent.mkdir(exist_ok=True)
                    self._download(f"{source}/{path}", staging / path, cache)
                verify_files(staging, digests, source)
        return copy

    @store_errors
    def _download(self, source: str, target: Path, cache: Path) -> None:
        with full_disk_errors(cache):
            self._fs.get_file(source, str(target))

    @store_errors
    def prunable(self, name: str, keep: int) -> tuple[str, ...]:
        """List the versions of a model that may be removed, the oldest first.

        Versions whose removal was interrupted come before them. The current version stays, the
        one that a roll-back goes to, and the `keep` (0 or more) that were published last; these
        may be the same.

        Raises:
            ArtefactMissing: The model has no version.
        """
        versions = [found.version for found in self.list(name)]
        if not versions:
            raise ArtefactMissing(f"nothing of the name '{name}' is published in {self._root}")
        by_age = sorted(versions, key=lambda version: (self._published(name, version), version))
        needed = self._in_use(name)
        old = by_age[: max(0, len(by_age) - keep)]
        folders = sorted(self._folders(self._path(name)))
        interrupted = [version for version in folders if self._is_half_removed(name, version)]
        return (*interrupted, *(version for version in old if version not in needed))

    @store_errors
    def remove(self, name: str, version: str) -> None:
        """Remove a version; for readers it vanishes at once. One removal or publication at a time.

        An interrupted removal leaves no version. The rest goes when the version is removed again,
        or published again. A mark distinguishes it from a version that is being published and must
        stay.

        Raises:
            ArtefactMissing: The version is not there.
            VersionInUse: It is current, or the one that a roll-back goes to.
        """
        folder = self._path(name, checked_name(version))
        if not self._is_half_removed(name, version):
            if self._resolve(name, version) in self._in_use(name):
                raise VersionInUse(
                    f"{name}@{version} is current, or the version to roll back to; make another "
                    "current"
                )
            self._fs.mv(f"{folder}/{MANIFEST}", f"{folder}/{_REMOVED}")
        for part in PARTS:
            remove(self._fs, f"{folder}/{part}")
        remove(self._fs, folder)  # the mark last

    def _is_half_removed(self, name: str, version: str) -> bool:
        mark = f"{self._path(name, version)}/{_REMOVED}"
        return not self._is_complete(name, version) and bool(self._fs.exists(mark))

    def _in_use(self, name: str) -> set[str]:
        """Find the current version and the one that a roll-back goes to."""
        pointer = self._pointer(name)
        pointers = (pointer, self._rollback_target(name, pointer))
        return {each.version for each in pointers if each is not None}

    def _published(self, name: str, version: str) -> datetime:
        return self._fs.modified(f"{self._path(name, version)}/{MANIFEST}")  # type: ignore[no-any-return]

    def prune_cache(self, name: str, cache: Path, kept: Collection[Path]) -> None:
        """Remove a model's copies from the cache, but for those in `kept`."""
        prune(cache / checked_name(name), kept)

    def _is_complete(self, name: str, version: str) -> bool:
        return exists(self._fs, f"{self._path(name, version)}/{MANIFEST}")


def canary_images(folder: Path) -> list[Path]:
    """List the image files of a folder, in order of name; empty if it is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _published_files(backbone: Path, bank: Path, canary: Path | None) -> dict[str, Path]:
    """List the files that make a version, by their paths in it."""
    files = bundle_files(backbone, bank)
    if canary is None:
        return files
    images = canary_images(canary)
    if not images:
        raise InvalidSettings(
            f"the canary's folder {canary} holds no image ({', '.join(sorted(SUFFIXES))})"
        )
    return files | {f"{CANARY}/{path.name}": path for path in images}
