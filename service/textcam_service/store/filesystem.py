"""Operations on an fsspec file system that hold for folders and for object stores."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec

from textcam_service.errors import InvalidSettings


def open_filesystem(root: str | Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open the file system of a folder or URL.

    Returns:
        The file system, and the root's path in it.

    Raises:
        InvalidSettings: The URL's scheme is unknown, or its package is not installed.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(str(root))
    except (ImportError, ValueError) as error:
        raise InvalidSettings(f"the store {root} cannot be opened: {error}") from error
    return filesystem, str(path)


def exists(filesystem: fsspec.AbstractFileSystem, path: str) -> bool:
    """Return True if a file or folder is there now, whatever a listing in memory states."""
    filesystem.invalidate_cache()
    return bool(filesystem.exists(path))


def write_whole(filesystem: fsspec.AbstractFileSystem, target: str, content: bytes) -> None:
    """Write a file under a temporary name and move it: readers find the old one or the new one."""
    folder, _, leaf = target.rpartition("/")
    staging = f"{folder}/.{leaf}.{uuid.uuid4().hex}"
    try:
        filesystem.pipe_file(staging, content)
        filesystem.mv(staging, target)
    except BaseException:
        remove(filesystem, staging)
        raise


def remove(filesystem: fsspec.AbstractFileSystem, path: str) -> None:
    """Remove a file or a folder with all it holds, if it is there."""
    if exists(filesystem, path):
        filesystem.rm(path, recursive=True)


def folders(filesystem: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """List the names of the folders in a folder; empty if it is not there."""
    if not exists(filesystem, path):
        return []
    return [
        entry["name"].rstrip("/").rsplit("/", 1)[-1]
        for entry in filesystem.ls(path, detail=True)
        if entry["type"] == "directory"
    ]
