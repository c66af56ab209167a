"""Data sets that are WebDataset tars: files with the same key are one sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

from textcam_client.audit.datasets.dataset import DataOptions, as_text, in_words
from textcam_client.audit.datasets.folder import is_image
from textcam_client.audit.datasets.storage import Storage
from textcam_client.audit.datasets.tars import TarMember, tar_members
from textcam_client.audit.errors import DataSetError
from textcam_client.audit.rows import Row

_MASK = "mask.png"
_SMALL = ("cls", "json", "txt")
_ARRAYS = (dict, list)


class Shards:
    """Samples of one or several tars.

    A key is the path up to the first dot of the file's name, as in WebDataset. The label is in
    KEY.cls, KEY.json or KEY.txt, in this order; other values of KEY.json are slices. KEY.mask.png
    is the object's mask. With several tars, the name of the tar is a part of the row's id.

    Args:
        name: Path or URL, as given.
        tars: Paths or URLs of the tars, in order.
        storage: Their file system.
        options: Reading of the samples.
    """

    def __init__(self, name: str, tars: list[str], storage: Storage, options: DataOptions) -> None:
        self.name = name
        self._tars = tars
        self._storage = storage
        self._options = options

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the tars' order; an image in a plain tar is not read.

        Raises:
            DataSetError: A tar is cut or damaged, or two samples have the same key.
            OSError: A tar cannot be read.
        """
        numbers = count()
        for tar in self._tars:
            for key, files in self._samples(tar):
                image = next(filter(_is_picture, files), None)
                if image is not None:
                    yield self._row(next(numbers), tar, key, files, image)

    def _row(
        self, index: int, tar: str, key: str, files: Mapping[str, TarMember], image: str
    ) -> Row:
        small = {kind: self._read(tar, files[kind]) for kind in _SMALL if kind in files}
        values = _json(tar, key, small.get("json", b"{}"))
        label = small.get("cls") or b""
        text = label.decode(errors="replace").strip()
        if not text:
            text = _label(tar, key, values.get(self._options.label_column))
        if not text:
            text = small.get("txt", b"").decode(errors="replace").strip()
        shard = f"{_stem(tar)}/" if len(self._tars) > 1 else ""
        return Row(
            index=index,
            row_id=in_words(f"{shard}{key}"),
            path=in_words(f"{tar}/{files[image].name}"),
            label=text or None,
            read=partial(self._read, tar, files[image]),
            slices=self._options.slices(_plain(values)),
            read_mask=partial(self._read, tar, files[_MASK]) if _MASK in files else None,
        )

    def _read(self, tar: str, file: TarMember) -> bytes:
        if file.content is not None:
            return file.content
        return self._storage.read(tar, file.start, file.start + file.size)

    def _samples(self, tar: str) -> Iterator[tuple[str, dict[str, TarMember]]]:
        """Yield (key, files by kind) of samples; files of one sample lie side by side."""
        key, files = "", dict[str, TarMember]()
        for file in tar_members(tar, self._storage):
            folder, slash, base = file.name.rpartition("/")
            stem, _, kind = base.partition(".")
            kind = kind.lower()
            if f"{folder}{slash}{stem}" != key:
                if files:
                    yield key, files
                key, files = f"{folder}{slash}{stem}", {}
            _require_one(tar, key, files, kind, file)
            files[kind] = file
        if files:
            yield key, files


def _require_one(
    tar: str, key: str, files: Mapping[str, TarMember], kind: str, file: TarMember
) -> None:
    twin = files.get(kind)
    if twin is None and _is_picture(kind):
        twin = next((one for name, one in files.items() if _is_picture(name)), None)
    if twin is not None:
        raise DataSetError(
            f"{twin.name} and {file.name} in {tar} have the same key {key!r}, which is the name up "
            f"to its first dot: rename one, without dots before the suffix; a mask is {key}.{_MASK}"
        )


def _is_picture(kind: str) -> bool:
    return is_image(f"image.{kind}") and kind != _MASK


def _json(tar: str, key: str, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise DataSetError(f"{key}.json in {tar} is no JSON: {error}") from error
    except RecursionError as error:
        raise DataSetError(
            f"{key}.json in {tar} is nested too deeply: leave out what is no label and no value to "
            "compare by"
        ) from error
    if not isinstance(values, dict):
        raise DataSetError(f"{key}.json in {tar} holds no object {{...}}")
    return values


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, _ARRAYS)}


def _label(tar: str, key: str, value: object) -> str:
    if isinstance(value, _ARRAYS):
        raise DataSetError(
            f"the label in {key}.json in {tar} is an array or an object, not a text or a number: "
            f"store it as one, or in {key}.cls"
        )
    return as_text(value)


def _stem(tar: str) -> str:
    return tar.replace("\\", "/").rpartition("/")[2].partition(".")[0]
