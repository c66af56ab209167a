"""Data sets that are lists: CSV or Parquet with a column of paths."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textcam_client.audit.datasets.dataset import DataOptions, as_text, in_words
from textcam_client.audit.datasets.storage import Storage, storage_of
from textcam_client.audit.errors import DataSetError
from textcam_client.audit.rows import Row

_BATCH_ROWS = 1024


class TableList:
    """List of images with their labels and slices; paths are relative to its folder.

    Args:
        name: Path or URL of the list.
        storage: File system of the list.
        options: Names of the columns.
    """

    def __init__(self, name: str, storage: Storage, options: DataOptions) -> None:
        self.name = name
        self._storage = storage
        self._options = options
        self._folder = name.rpartition("/")[0] if "://" in name else str(Path(name).parent)

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order of the list, without reading an image.

        Raises:
            DataSetError: The list is damaged, or lacks a column.
            OSError: It cannot be read.
        """
        read = _parquet if self.name.lower().endswith((".parquet", ".pq")) else _csv
        with self._storage.open(self.name) as file:
            try:
                for index, values in enumerate(read(file, self._options)):
                    if index == 0:
                        self._check_columns(values)
                    yield self._row(index, values)
            except UnicodeDecodeError as error:
                raise DataSetError(
                    f"the list {self.name} is no UTF-8 text ({error}): save it as UTF-8, which "
                    "spreadsheets call CSV UTF-8"
                ) from error
            except (pa.ArrowException, csv.Error, _ColumnFault) as error:
                raise DataSetError(f"the list {self.name} cannot be read: {error}") from error

    def _row(self, index: int, values: Mapping[str, Any]) -> Row:
        options = self._options
        row_id = as_text(values[options.path_column])
        if not row_id:
            raise DataSetError(
                f"row {index + 1} of {self.name} has no {options.path_column}: fill it in, or "
                "remove the row"
            )
        mask = as_text(values.get(options.mask_column))
        label = as_text(values.get(options.label_column))
        path = self._place(row_id)
        return Row(
            index=index,
            row_id=row_id,
            path=in_words(path),
            label=label or None,
            read=partial(_read, path),
            slices=options.slices(values),
            read_mask=partial(_read, self._place(mask)) if mask else None,
        )

    def _place(self, path: str) -> str:
        return path if "://" in path else self._storage.join(self._folder, path)

    def _check_columns(self, values: Mapping[str, Any]) -> None:
        options = self._options
        needed = [options.path_column, *(options.slice_columns or ())]
        if options.label_column != DataOptions.label_column:
            needed.append(options.label_column)
        for column in needed:
            if column not in values:
                raise DataSetError(
                    f"{self.name} has no column {column!r}; its columns are "
                    f"{', '.join(map(repr, values))}"
                )
        for column in (options.label_column, options.mask_column):
            near = [name for name in values if name.casefold() == column.casefold()]
            if near and column not in near:
                raise DataSetError(
                    f"{self.name} has no column {column!r} but {near[0]!r}: rename it"
                )


def _read(place: str) -> bytes:
    return storage_of(place).read(place)


def _parquet(file: Any, options: DataOptions) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(file) as table:
        schema = table.schema_arrow
        names = _names(schema.names)
        # Embeddings, files and other arrays are no slices.
        plain = [field.name for field in schema if _is_plain(field.type)]
        for name, field in zip(names, schema, strict=True):
            if options.uses(name) and field.name not in plain:
                raise _ColumnFault(
                    f"the column {name!r} holds {field.type}, not a text or a number: store it as "
                    "one, or rename it"
                )
        for batch in table.iter_batches(_BATCH_ROWS, columns=plain):
            for row in batch.to_pylist():
                yield {name.strip(): value for name, value in row.items()}


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return not (pa.types.is_nested(kind) or any(test(kind) for test in binary))


def _csv(file: Any, _: DataOptions) -> Iterator[Mapping[str, Any]]:
    # Spreadsheets put a byte-order mark at the start.
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    table = csv.DictReader(text, strict=True)
    table.fieldnames = _names(table.fieldnames or ())
    for row in table:
        if None in row:
            raise csv.Error(f"a row has more values than there are columns: {row[None]}")
        yield row


def _names(columns: Sequence[str]) -> list[str]:
    """Return the columns' names without spaces around them, as of values.

    Raises:
        _ColumnFault: Two are alike, or they are no text.
    """
    names = [column.strip() for column in columns]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _ColumnFault(
            f"several columns have the name {twice[0]!r}: rename or remove all but one"
        )
    if "\0" in "".join(names):
        raise _ColumnFault("its first line holds NUL, as UTF-16 does: save it as UTF-8")
    return names


class _ColumnFault(Exception):
    """Columns that cannot be told apart, or read."""
