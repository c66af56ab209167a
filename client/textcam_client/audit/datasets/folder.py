"""Data sets that are folder trees: the name of the first folder is the label."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import PurePath

from textcam_client.audit.datasets.dataset import DataOptions, in_words
from textcam_client.audit.datasets.storage import Storage
from textcam_client.audit.rows import Row

# Other files of a tree, such as notes, are no rows; a picture of a type that the server refuses is
# one, and is listed with its reason.
IMAGE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".heic", ".jfif", ".jpe", ".jpeg", ".jpg", ".png"),
        *(".tif", ".tiff", ".webp"),
    }
)


class FolderTree:
    """Folder tree of images.

    Args:
        name: Path or URL of the root.
        storage: File system of the root.
        options: Reading of the tree.
    """

    def __init__(self, name: str, storage: Storage, options: DataOptions) -> None:
        self.name = name
        self._storage = storage
        self._options = options

    def rows(self) -> Iterator[Row]:
        """Yield the rows, sorted by path, without reading an image; raises OSError."""
        numbers = count()
        for path in self._files("", frozenset()):
            folder, slash, _ = path.partition("/")
            place = self._storage.join(self.name, path)
            yield Row(
                index=next(numbers),
                row_id=in_words(path),
                path=in_words(place),
                label=in_words(folder) if slash and not self._options.flat else None,
                read=partial(self._storage.read, place),
            )

    def _files(self, folder: str, above: frozenset[str]) -> Iterator[str]:
        """Yield paths below the root; links to a folder above are not followed again."""
        place = self._storage.join(self.name, folder) if folder else self.name
        real = place if "://" in place else os.path.realpath(place)
        if real in above:
            return
        for name, is_folder in self._storage.entries(place):
            path = f"{folder}/{name}" if folder else name
            if name.startswith("."):
                continue
            if is_folder:
                yield from self._files(path, above | {real})
            elif is_image(name):
                yield path


def is_image(name: str) -> bool:
    """Return True for a name with the suffix of an image file."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES
