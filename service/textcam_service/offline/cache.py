"""The user's folder of what is made once and used again: translated networks, embedded texts.

Nothing in it is needed: what is missing or damaged is made anew, and it may be deleted at any time.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from textcam_service.errors import FolderTaken
from textcam_service.offline.chunks import Chunk, ChunkStore

_log = logging.getLogger(__name__)
_KEPT = 16  # of a kind; a network of a large CLIP takes over 1 GB


def cache_folder() -> Path:
    """Return $XDG_CACHE_HOME/textcam, or ~/.cache/textcam; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "textcam"


def kept(
    kind: str, tensors: Collection[str], identity: object, compute: Callable[[], Chunk]
) -> Chunk:
    """Return the chunk of an identity from the user's folder, or compute it and keep it there.

    A folder that cannot be written costs time and nothing else. The chunks of a kind that were
    used least lately are removed.

    Args:
        kind: Name of the kind.
        tensors: Names of its arrays.
        identity: All that the chunk depends on, as JSON.
        compute: Called if there is no complete chunk of this identity.
    """
    store = ChunkStore(cache_folder(), kind, tensors)
    chunk = store.load(identity)
    if chunk is None:
        chunk = compute()
        keep(store, identity, chunk)
    else:
        _touch(store.path(identity))
    return chunk


def keep(store: ChunkStore, identity: object, chunk: Chunk, count: int = _KEPT) -> None:
    """Save a chunk in the user's folder if it can be written, and remove what is over `count`."""
    try:
        store.save(identity, chunk)
    except (OSError, FolderTaken) as error:
        _log.warning(
            "%s cannot be written (%s), so that this is computed again next time; set "
            "XDG_CACHE_HOME to a folder that can",
            cache_folder(),
            error,
        )
        return
    newest = sorted(store.paths(), key=_changed, reverse=True)
    for old in newest[count:]:
        shutil.rmtree(old, ignore_errors=True)


def _touch(folder: Path) -> None:
    """Note that a chunk was used."""
    try:
        os.utime(folder)
    except OSError:
        _log.debug("the time of %s stays", folder)


def _changed(folder: Path) -> float:
    """Return the time of a chunk's last use; 0: another process has removed it."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
