"""Choice of the reader that fits a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import PurePosixPath

from textcam_client.audit.datasets.dataset import DataOptions, DataSet
from textcam_client.audit.datasets.folder import FolderTree
from textcam_client.audit.datasets.shards import Shards
from textcam_client.audit.datasets.storage import Storage, storage_of
from textcam_client.audit.datasets.table import TableList
from textcam_client.audit.datasets.tars import TAR_SUFFIXES
from textcam_client.audit.errors import DataSetError
from textcam_client.audit.rows import Row

_LISTS = (".csv", ".parquet", ".pq")


def open_data_set(name: str, options: DataOptions | None = None) -> DataSet:
    """Return the data set at a path or URL.

    Args:
        name: A folder tree of images, a folder with tars, a list (.csv, .parquet), a tar, or a
            pattern of tars such as "shards/train-*.tar".
        options: Reading of it.

    Raises:
        DataSetError: There is nothing, nothing of these kinds, or tars and images in one folder.
    """
    options = options or DataOptions()
    storage = storage_of(name)
    opened = _opened(name, storage, options)
    return WithMasks(opened, options.masks) if options.masks else opened


def _opened(name: str, storage: Storage, options: DataOptions) -> DataSet:
    tars = _tars(name, storage)
    if storage.is_folder(name):
        tree = FolderTree(name, storage, options)
        if not tars:
            return tree
        _require_no_images(tree, tars[0])
    if tars:
        return Shards(name, tars, storage, options)
    if not storage.is_file(name):
        raise DataSetError(f"there is no data set at {name}: no such file or folder")
    if name.lower().endswith(_LISTS):
        return TableList(name, storage, options)
    raise DataSetError(
        f"{name} is no data set: it is to be a folder of images, a list ({', '.join(_LISTS)}), or "
        f"a tar ({', '.join(TAR_SUFFIXES)})"
    )


def _tars(name: str, storage: Storage) -> list[str]:
    """Return the tars that are meant: the file itself, those of the folder, or of the pattern."""
    if storage.is_folder(name):
        folder, pattern = name, "*"
    else:
        if name.lower().endswith(TAR_SUFFIXES) and storage.is_file(name):
            return [name]
        folder, _, pattern = name.rpartition("/")
        folder = folder or "."
        if "*" not in pattern or not storage.is_folder(folder):
            return []
    return [
        storage.join(folder, entry)
        for entry, is_folder in storage.entries(folder)
        if not is_folder and fnmatch(entry, pattern) and entry.lower().endswith(TAR_SUFFIXES)
    ]


def _require_no_images(tree: FolderTree, tar: str) -> None:
    """Raise DataSetError if a folder with tars holds images beside them."""
    image = next(tree.rows(), None)
    if image is not None:
        raise DataSetError(
            f"{tree.name} holds tars and images alike, such as {tar} and {image.path}: move one "
            "kind elsewhere, or name the tars by a pattern such as 'shards/*.tar'"
        )


class WithMasks:
    """Data set whose masks lie in a folder of their own.

    Args:
        images: The images.
        folder: Path or URL of the masks.

    Raises:
        DataSetError: There is no such folder.
    """

    def __init__(self, images: DataSet, folder: str) -> None:
        self.name = images.name
        self._images = images
        self._folder = folder
        self._storage = storage_of(folder)
        if not self._storage.is_folder(folder):
            raise DataSetError(f"there is no folder of masks at {folder}")

    def rows(self) -> Iterator[Row]:
        """Yield the rows, with their masks; raises as the images' own."""
        for row in self._images.rows():
            yield dataclasses.replace(row, read_mask=self._reader(row.row_id))

    def _reader(self, row_id: str) -> Callable[[], bytes]:
        path = PurePosixPath(row_id)
        names = dict.fromkeys([f"{path.with_suffix('.png')}", f"{path}.png", f"{path}"])
        return partial(_first, self._storage, [self._storage.join(self._folder, n) for n in names])


def _first(storage: Storage, places: list[str]) -> bytes:
    """Return the first of several files that exists; raises OSError."""
    for place in places:
        if storage.is_file(place):
            return storage.read(place)
    raise FileNotFoundError(f"there is no mask {places[0]}")
