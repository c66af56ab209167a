"""Finished chunks of a long computation, so that interrupted work resumes.

A chunk is an artefact in a folder of its own, named by what it was computed from. It is written
under a temporary name and moved into place, so that several processes may fill one store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from textcam_service.artefacts.files import (
    Tensors,
    artefact_files,
    canonical_json,
    read_artefact,
    replaced_folder,
    sha256,
    write_artefact,
)
from textcam_service.errors import ArtefactError, ArtefactMissing

_log = logging.getLogger(__name__)
_FORMAT = 1  # changes with the meaning of chunks, so that older ones are never read


class Chunk(NamedTuple):
    """One part of a result.

    Attributes:
        tensors: Arrays by name.
        manifest: Further data, as JSON.
    """

    tensors: Tensors
    manifest: Mapping[str, Any]


class ChunkStore:
    """Chunks of one kind in a work folder; the folder's owner removes the folder at the end."""

    def __init__(self, folder: Path, kind: str, tensors: Collection[str]) -> None:
        """Open a store; nothing is written yet.

        Args:
            folder: Work folder, which other kinds may share.
            kind: Name of the kind, in the names of the chunks' files.
            tensors: Names of the arrays that each chunk holds.
        """
        self._folder, self._kind, self._tensors = folder, kind, frozenset(tensors)

    def resume(self, identity: object, compute: Callable[[], Chunk]) -> Chunk:
        """Return the chunk of an identity: the saved one, or a new one, which is saved.

        Args:
            identity: All that the chunk depends on, as JSON.
            compute: Called if there is no complete chunk of this identity.
        """
        chunk = self.load(identity)
        if chunk is None:
            chunk = compute()
            self.save(identity, chunk)
        return chunk

    def load(self, identity: object) -> Chunk | None:
        """Read the chunk of an identity; None: there is none, or it is damaged."""
        return self.read(self.path(identity))

    def read(self, path: Path) -> Chunk | None:
        """Read the chunk in a folder; None: there is none, or it is damaged, which is logged."""
        try:
            tensors, manifest = read_artefact(path, self._kind)
        except ArtefactMissing:
            return None
        except ArtefactError as error:
            _log.warning("%s; what it held is made anew", error)
            return None
        return Chunk(tensors, manifest) if self._tensors == tensors.keys() else None

    def save(self, identity: object, chunk: Chunk) -> None:
        """Write a chunk at once or not at all.

        Raises:
            ValueError: It does not hold the store's arrays.
            OSError: The folder cannot be written.
        """
        if self._tensors != chunk.tensors.keys():
            raise ValueError(f"a chunk of {self._kind} holds {sorted(self._tensors)}")
        try:
            with replaced_folder(self.path(identity), artefact_files(self._kind)) as staging:
                write_artefact(staging, self._kind, chunk.tensors, chunk.manifest)
        except OSError:
            if self.load(identity) is None:  # else another process has saved it meanwhile
                raise

    def paths(self) -> list[Path]:
        """List the folders of all chunks of this kind."""
        return [*self._folder.glob(f"{self._kind}-*")]

    def path(self, identity: object) -> Path:
        """Name the folder of an identity's chunk."""
        digest = sha256(canonical_json([_FORMAT, self._kind, identity])).removeprefix("sha256:")
        return self._folder / f"{self._kind}-{digest[:24]}"
