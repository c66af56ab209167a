"""The local cache of versions from a remote store, which several processes may share."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from textcam_service.errors import StoreFailed

# Errors of a disk that is written to; a store that is read raises none of them.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


@contextmanager
def cache_errors(cache: Path) -> Iterator[None]:
    """Turn errors of the local file system into StoreFailed that names the cache."""
    try:
        yield
    except OSError as error:
        raise _not_copied(cache, error) from error


@contextmanager
def full_disk_errors(cache: Path) -> Iterator[None]:
    """Turn errors of a full disk into StoreFailed that names the cache.

    A download's other errors may be the store's: only the number says which side failed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _not_copied(cache, error) from error
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, so that one process at a time fetches into it or prunes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prune(folder: Path, kept: Collection[Path]) -> None:
    """Remove the copies in a folder that are not among `kept`, and incomplete ones."""
    if not folder.is_dir():
        return
    with locked(folder):
        for copy in folder.iterdir():
            if copy.is_dir() and copy not in kept:
                shutil.rmtree(copy, ignore_errors=True)


def _not_copied(cache: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"the store's models cannot be copied to {cache} ({type(error).__name__}: {error}); check "
        "the setting store_cache (not set: the folder of temporary files), whether that folder "
        "is writable, and the free space on its disk"
    )
