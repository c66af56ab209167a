"""Versions of whole models under a root: a folder, or any fsspec URL.

    <root>/<name>/<version>/backbone/...  bank/...  canary/...
    <root>/<name>/<version>/bundle.json    the digest of each of these files; written last
    <root>/<name>/<version>/removed.json   the same, once the version is being removed
    <root>/<name>/<version>/served.json    a server took it
    <root>/<name>/current.json             the version to serve, and those current before it

Backbone, bank and vocabulary travel as one. A version is there once its bundle.json is, and no
longer: one object, written and removed at once wherever objects are. Nothing that is there is ever
written again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from textcam_service.artefacts.bundle import bundle_files
from textcam_service.artefacts.files import (
    canonical_json,
    file_digests,
    read_file,
    replaced_folder,
    sha256,
    version_of,
)
from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactMissing,
    InvalidSettings,
    StoreFailed,
    VersionExists,
    VersionInUse,
)
from textcam_service.imaging.decoding import SUFFIXES
from textcam_service.model.bundle import ModelBundle
from textcam_service.store.versions import VersionStore, checked_name, reaching

CANARY = "canary"
_PARTS = ("backbone", "bank", CANARY)
_MANIFEST = "bundle.json"
_REMOVED = "removed.json"
# What a disk that is written to says, and no store that is read.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class ModelStore(VersionStore):
    """Publishes, lists, fetches and rolls back models."""

    @reaching
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
            name: Of the model.
            backbone: Its folder.
            bank: Its folder, vocabulary included.
            version: Empty: that of the bundle's files and the canary's, see version_of.
            canary: Folder of images that a server explains with the old version and the new one;
                None: it renders scenes.
            use: Whether it becomes current.
            accept_drift: See Pointer.

        Returns:
            The version.

        Raises:
            VersionExists: It is there already.
            ArtefactError: The parts are not sound or do not match, or the store fails.
            InvalidSettings: The canary's folder holds no image.
        """
        ModelBundle.load(name, backbone, bank)
        sources = _sources(backbone, bank, canary)
        digests = file_digests(sources)
        version = checked_name(version or version_of(digests))
        self._pointer(name)  # one that cannot be read is told before anything is written
        if self._complete(name, version):
            raise VersionExists(
                f"{name}@{version} is published already; make it current (`textcam model use`), or "
                "choose another version"
            )
        target = self._path(name, version)
        self._remove(target)  # what a publisher that was killed half-way left there
        try:
            for folder in {path.partition("/")[0] for path in sources}:
                self._fs.makedirs(f"{target}/{folder}", exist_ok=True)
            for path, source in sources.items():
                self._fs.put_file(str(source), f"{target}/{path}")
            manifest = {"files": digests, "digest": sha256(canonical_json(digests))}
            self._write(f"{target}/{_MANIFEST}", json.dumps(manifest, indent=2).encode())
            if use:
                self._point_to(name, version, accept_drift)
        except BaseException:
            self._forget(name, version)
            raise
        return version

    @reaching
    def fetch(self, name: str, version: str, cache: Path) -> Path:
        """Verify a version, and copy it where it is not on this machine.

        Args:
            name: Of the model.
            version: One that is there.
            cache: Where copies of a remote store lie, by name and digest.

        Returns:
            The folder that holds backbone/, bank/ and, where published with one, canary/.

        Raises:
            ArtefactMissing: It is not there.
            ArtefactCorrupt: A file does not have its digest.
            StoreFailed: The store, or the cache's disk, fails.
        """
        source = self._path(name, self._chosen(name, version))
        digests = self._digests(source)
        if isinstance(self._fs, LocalFileSystem):
            _verify(Path(source), digests)
            return Path(source)
        digest = sha256(canonical_json(digests)).removeprefix("sha256:")
        kept = cache / checked_name(name) / digest
        with _copying_to(cache), _alone(kept.parent):
            if kept.is_dir():
                try:
                    _verify(kept, digests)
                except (ArtefactCorrupt, ArtefactMissing):
                    pass  # the copy on this machine is at fault: another is made in its place
                else:
                    return kept
            with replaced_folder(kept, _PARTS) as staging:
                for path in digests:
                    (staging / path).parent.mkdir(exist_ok=True)
                    self._download(f"{source}/{path}", staging / path, cache)
                _verify(staging, digests, source)
        return kept

    @reaching
    def _download(self, source: str, target: Path, cache: Path) -> None:
        """Copy a file; of what is raised only the number says which side it comes from."""
        try:
            self._fs.get_file(source, str(target))
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise _not_copied(cache, error) from error
            raise

    @reaching
    def prunable(self, name: str, keep: int) -> tuple[str, ...]:
        """Versions of a model that nobody needs, the oldest first.

        Before them those whose removal was broken off: what is left of them is no version.

        Needed are the current one, the one that a roll-back goes to, and the `keep` newest by the
        time of their publication (0 or more), which may be the same ones.

        Raises:
            ArtefactMissing: The model has no version.
        """
        versions = [found.version for found in self.list(name)]
        if not versions:
            raise ArtefactMissing(f"nothing of the name '{name}' is published in {self._root}")
        by_age = sorted(versions, key=lambda version: (self._published(name, version), version))
        needed = self._needed(name)
        old = by_age[: max(0, len(by_age) - keep)]
        folders = sorted(self._children(self._path(name)))
        halves = [version for version in folders if self._is_half_removed(name, version)]
        return (*halves, *(version for version in old if version not in needed))

    @reaching
    def remove(self, name: str, version: str) -> None:
        """Remove a version, at once for who reads the store; as publish(), one at a time.

        What is left where that is broken off is no version, and goes where it is removed again or
        another is published under its name. It is marked, for what is published just now is no
        version either, and must stay.

        Raises:
            ArtefactMissing: It is not there.
            VersionInUse: It is current, or the one that a roll-back goes to.
        """
        folder = self._path(name, checked_name(version))
        if not self._is_half_removed(name, version):
            if self._chosen(name, version) in self._needed(name):
                raise VersionInUse(
                    f"{name}@{version} is current, or the version to roll back to; make another "
                    "current"
                )
            self._fs.mv(f"{folder}/{_MANIFEST}", f"{folder}/{_REMOVED}")
        for part in _PARTS:
            self._remove(f"{folder}/{part}")
        self._remove(folder)  # the mark last

    def _is_half_removed(self, name: str, version: str) -> bool:
        mark = f"{self._path(name, version)}/{_REMOVED}"
        return not self._complete(name, version) and bool(self._fs.exists(mark))

    def _needed(self, name: str) -> set[str]:
        pointer = self._pointer(name)
        found = (pointer, self._before(name, pointer))
        return {each.version for each in found if each is not None}

    def _published(self, name: str, version: str) -> datetime:
        return self._fs.modified(f"{self._path(name, version)}/{_MANIFEST}")  # type: ignore[no-any-return]

    def tidy(self, name: str, cache: Path, kept: Collection[Path]) -> None:
        """Remove the cache's copies of a model but for those in `kept`, and what was left half."""
        folder = cache / checked_name(name)
        if not folder.is_dir():
            return
        with _alone(folder):
            for copy in folder.iterdir():
                if copy.is_dir() and copy not in kept:
                    shutil.rmtree(copy, ignore_errors=True)

    def _complete(self, name: str, version: str) -> bool:
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._path(name, version)}/{_MANIFEST}"))

    def _digests(self, folder: str) -> dict[str, str]:
        """The digest of each file of a version, by its path in there."""
        path = f"{folder}/{_MANIFEST}"
        try:
            said = json.loads(self._fs.cat_file(path))
            digests = {str(file): str(digest) for file, digest in said["files"].items()}
            stated = said["digest"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactCorrupt(f"{path} is not a manifest: {error}") from error
        plain = all(_is_plain(file) for file in digests)
        if sha256(canonical_json(digests)) != stated or not plain:
            raise ArtefactCorrupt(f"{path} was changed after it was written; publish a new version")
        return digests


@contextmanager
def _copying_to(cache: Path) -> Iterator[None]:
    """Tell what this machine's file system raises by the cache's name, not by the store's."""
    try:
        yield
    except OSError as error:
        raise _not_copied(cache, error) from error


def _not_copied(cache: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"the store's models cannot be copied to {cache} ({type(error).__name__}: {error}); look "
        "to the setting store_cache (not set: the folder of temporary files), whether that folder "
        "can be written to, and the room on its disk"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes that share the cache out of a folder: several workers may fetch."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources(backbone: Path, bank: Path, canary: Path | None) -> dict[str, Path]:
    """Where each file of a version comes from, by its path in there."""
    found = bundle_files(backbone, bank)
    if canary is None:
        return found
    images = canary_images(canary)
    if not images:
        raise InvalidSettings(
            f"the canary's folder {canary} holds no image ({', '.join(sorted(SUFFIXES))})"
        )
    return found | {f"{CANARY}/{path.name}": path for path in images}


def canary_images(folder: Path) -> list[Path]:
    """Image files of a folder, in order of name; none where it is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _is_plain(path: str) -> bool:
    """Whether a path of a manifest stays inside its folder."""
    folder, _, leaf = path.partition("/")
    return folder in _PARTS and leaf == Path(leaf).name != ""


def _verify(folder: Path, digests: Mapping[str, str], told: str = "") -> None:
    for path, digest in digests.items():
        if sha256(read_file(folder / path)) != digest:
            raise ArtefactCorrupt(
                f"{told or folder}/{path} does not have the digest that {_MANIFEST} states; roll "
                "back, and publish a new version"
            )
