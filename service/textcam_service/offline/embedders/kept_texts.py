"""Embeddings of texts in the user's cache folder, so that a vocabulary is embedded once."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from textcam_service.artefacts.files import Tensors, read_artefact, write_artefact
from textcam_service.core.types import Float32Array
from textcam_service.offline.cache import cache_folder, keep
from textcam_service.offline.chunks import Chunk, ChunkStore

_LEAST = 32  # new texts; fewer are embedded sooner than written
_MOST = 2**16  # texts of an embedder; those that were added last stay
_PARTS = 8  # files of an embedder, before they are joined to one
_DIGITS = 16
_PACKAGED = "texts"

Rows = dict[bytes, Float32Array]


class KeptTexts:
    """Embeddings of one embedder's texts, each found by its digest."""

    def __init__(self, identity: str, packaged: Path | None = None) -> None:
        """Name the embedder; nothing is read yet.

        Args:
            identity: All that an embedding depends on beside the text.
            packaged: Folder of embeddings that come with the package, see write_packaged; those of
                another identity are not read. None: there are none.
        """
        self._identity, self._packaged = identity, packaged
        kind = f"texts-{_key(identity).hex()}"
        self._store = ChunkStore(cache_folder(), kind, ("keys", "rows"))
        self._one_at_a_time = threading.Lock()

    def embed(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], Float32Array]
    ) -> Float32Array:
        """Embed texts: those that are kept are read, the others computed.

        Args:
            texts: N texts.
            compute: Called with the texts that are not kept, each once: (K, E).

        Returns:
            (N, E).
        """
        if not texts:
            return compute(texts)
        with self._one_at_a_time:  # a second caller finds what the first one has embedded
            return self._embed(texts, compute)

    def _embed(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], Float32Array]
    ) -> Float32Array:
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        rows: Rows = {}
        if new:
            rows = dict(zip(new, compute([*new.values()]), strict=True))
        if len(new) >= _LEAST:
            self._keep(rows)
        return np.stack([rows[key] if key in rows else self._known[key] for key in keys])

    @cached_property
    def _known(self) -> Rows:
        """Rows of all files; a damaged file of the cache is removed."""
        rows: Rows = {}
        if self._packaged is not None:
            tensors, manifest = read_artefact(self._packaged, _PACKAGED)
            if manifest["embedder"] == self._identity:
                rows = _rows(tensors)
        for path in sorted(self._store.paths(), key=lambda path: path.stat().st_mtime):
            chunk = self._store.read(path)
            if chunk is None:
                shutil.rmtree(path, ignore_errors=True)
            else:
                rows |= _rows(chunk.tensors)
        return rows

    def _keep(self, rows: Rows) -> None:
        self._known.update(rows)
        if len(self._store.paths()) < _PARTS:
            keep(self._store, _digest(rows), _chunk(rows), _PARTS)
            return
        newest = dict([*self._known.items()][-_MOST:])
        keep(self._store, _digest(newest), _chunk(newest), 1)


def write_packaged(
    folder: Path, identity: str, texts: Sequence[str], embeddings: Float32Array
) -> None:
    """Write embeddings that come with the package.

    Args:
        folder: Folder of the package's data.
        identity: Of the embedder.
        texts: N texts, no two equal.
        embeddings: (N, E).
    """
    rows = dict(zip(map(_key, texts), embeddings, strict=True))
    write_artefact(folder, _PACKAGED, _chunk(rows).tensors, {"embedder": identity})


def _rows(tensors: Tensors) -> Rows:
    keys = (key.tobytes() for key in tensors["keys"])
    return dict(zip(keys, tensors["rows"], strict=True))


def _chunk(rows: Rows) -> Chunk:
    keys = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), _DIGITS)
    return Chunk({"keys": keys, "rows": np.stack([*rows.values()])}, {})


def _digest(keys: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(keys)).hexdigest()


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGITS]
