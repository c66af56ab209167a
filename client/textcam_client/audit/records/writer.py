"""Writer of an audit's files from its segments, with memory for one row group and one sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textcam_client.audit.files import whole_file
from textcam_client.audit.records.schema import final_schema
from textcam_client.audit.records.sprites import SpriteWriter

RECORDS = "records.parquet"
FAILURES = "failures.csv"
# Fixed, so that a resumed run writes the same bytes.
ROW_GROUP = 1000
_FAILURE_COLUMNS = ("index", "row_id", "path", "label", "failure_reason", "failure")


def write_records(segments: Iterable[pa.Table], slices: Sequence[str], folder: Path) -> None:
    """Write records.parquet, sprites/ and failures.csv.

    Args:
        segments: Tables of the work schema, in order of index.
        slices: Slice columns.
        folder: Output folder.

    Raises:
        OSError: A file cannot be written; none is there in part.
    """
    schema = final_schema(slices)
    with (
        SpriteWriter(folder) as sprites,
        whole_file(folder / FAILURES) as failures,
        whole_file(folder / RECORDS) as records,
    ):
        failed = csv.writer(text := io.TextIOWrapper(failures, "utf-8", newline=""))
        failed.writerow(_FAILURE_COLUMNS)
        with pq.ParquetWriter(records, schema, compression="zstd") as writer:
            for group in _groups(_finished(table, sprites, schema) for table in segments):
                writer.write_table(group, row_group_size=ROW_GROUP)
                _list_failures(group, failed)
        text.flush()
        text.detach()
    pa.default_memory_pool().release_unused()  # 40 MB, which findings can use


def _finished(segment: pa.Table, sprites: SpriteWriter, schema: pa.Schema) -> pa.Table:
    """Return a segment in the final schema, and put its thumbnails on sheets."""
    places = [sprites.add(thumbnail) for thumbnail in segment["thumbnail"].to_pylist()]
    numbers = {
        "sheet": pa.array([sheet for sheet, _ in places], pa.int32()),
        "cell": pa.array([cell for _, cell in places], pa.int32()),
    }
    columns = [
        numbers[name] if name in numbers else segment[name].combine_chunks()
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows again in tables of ROW_GROUP rows; the last may be shorter."""
    held: pa.Table | None = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= ROW_GROUP:
            yield held.slice(0, ROW_GROUP).combine_chunks()
            held = held.slice(ROW_GROUP)
    if held is not None and held.num_rows:
        yield held.combine_chunks()


def _list_failures(group: pa.Table, file: Any) -> None:
    for row in group.select(_FAILURE_COLUMNS).to_pylist():
        if row["failure"]:
            file.writerow(row[name] for name in _FAILURE_COLUMNS)
