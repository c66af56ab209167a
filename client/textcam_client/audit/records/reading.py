"""Reading of an audit's records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.conversion import record_of
from textcam_client.audit.records.record import Record
from textcam_client.audit.records.schema import VERSION, VERSION_KEY
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
        OutputRefused: There is no such file, or it is damaged or of another schema.
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
            names = (
                None if columns is None else [n for n in columns if n in file.schema_arrow.names]
            )
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, names)
                yield from table.combine_chunks().to_batches()
    except FileNotFoundError as error:
        raise OutputRefused(
            f"{folder} holds no finished audit: it has no {RECORDS}; run `textcam audit` into it"
        ) from error
    except pa.ArrowException as error:
        raise OutputRefused(f"{path} is damaged ({error}): audit again") from error
