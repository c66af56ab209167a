"""Reading of an audit's records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.conversion import record_of
from textcam_client.audit.records.description import NAME
from textcam_client.audit.records.record import Record
from textcam_client.audit.records.schema import SLICE_PREFIX, VERSION, VERSION_KEY, final_schema
from textcam_client.audit.records.writer import RECORDS

# Rows that are Python objects at a time: their lists take ten times the memory of arrays.
_CONVERTED = 50


def read_records(folder: Path | str) -> Iterator[Record]:
    """Yield the records of a finished audit, in order of index, without their thumbnails.

    Raises:
        OutputRefused: The folder holds no finished audit, or one of another schema.
    """
    for batch in record_batches(Path(folder)):
        for start in range(0, batch.num_rows, _CONVERTED):
            for row in batch.slice(start, _CONVERTED).to_pylist():
                yield record_of(row)


def record_batches(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of records.parquet a row group at a time.

    Raises:
        OutputRefused: There is no such file, or it is damaged or of another schema, or lacks a
            column.
    """
    path = folder / RECORDS
    try:
        with pq.ParquetFile(path) as file:
            found = (file.schema_arrow.metadata or {}).get(VERSION_KEY, b"").decode()
            if found != VERSION:
                raise OutputRefused(
                    f"{path} has the schema {found or 'of no audit'!r}, and this version of "
                    f"textcam reads {VERSION!r}: audit again"
                )
            _require_columns(folder, file.schema_arrow, columns or ())
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, None if columns is None else list(columns))
                yield from table.combine_chunks().to_batches()
    except FileNotFoundError as error:
        raise _missing(folder) from error
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the disk's fault, not the file's
        raise damaged(folder, str(error)) from error


def damaged(folder: Path, fault: str) -> OutputRefused:
    """Return the error of records that are not what an audit wrote."""
    return OutputRefused(
        f"{folder / RECORDS} is damaged ({fault}): put back the file that the audit wrote, or "
        f"delete {folder} and audit again"
    )


def _missing(folder: Path) -> OutputRefused:
    if not (folder / NAME).is_file():
        return OutputRefused(
            f"{folder} holds no finished audit: it has no {RECORDS}; run `textcam audit` into it"
        )
    return OutputRefused(
        f"{folder} has {NAME} but no {RECORDS}: put it back, or delete {folder} and audit again"
    )


def _require_columns(folder: Path, found: pa.Schema, wanted: Sequence[str]) -> None:
    slices = [n.removeprefix(SLICE_PREFIX) for n in found.names if n.startswith(SLICE_PREFIX)]
    expected = final_schema(slices)
    for name in dict.fromkeys([*expected.names, *wanted]):
        if found.names.count(name) != 1:
            raise damaged(folder, f"column {name!r} is missing, or there several times")
        own, other = found.field(name).type, expected.field(name).type
        if own != other:
            raise damaged(folder, f"column {name!r} holds {own}, not {other}")
