"""Log of finished records: whole files of some tens of rows, in order of index."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.files import whole_file
from textcam_client.audit.records.conversion import record_of, row_of
from textcam_client.audit.records.record import Record
from textcam_client.audit.records.schema import work_schema

_PROVENANCES = b"textcam.audit.provenances"
_NAME = re.compile(r"\d{12}\.arrow")


class RecordLog:
    """Log of an audit.

    Args:
        folder: Its folder; records of an earlier process are found there.
        slices: Slice columns.
        class_names: The model's classes.
        segment_rows: Rows of a file.

    Attributes:
        keys: Index of the first row with each key; rows with the same key share its answer.
        provenances: Origins of the answers, as JSON, in order of appearance.

    Raises:
        OutputRefused: A file is damaged or missing.
    """

    def __init__(
        self, folder: Path, slices: Sequence[str], class_names: Sequence[str], segment_rows: int
    ) -> None:
        self._folder = folder
        self._schema = work_schema(slices)
        self._class_names = class_names
        self._segment_rows = segment_rows
        self._starts: list[int] = []
        self._open: list[dict[str, Any]] = []
        self._open_start = 0
        self.keys: dict[int, int] = {}
        self.provenances: list[str] = []
        self._recover()

    @property
    def next_index(self) -> int:
        """Index of the next record."""
        return self._open_start + len(self._open)

    @property
    def safe(self) -> int:
        """Number of records in files."""
        return self._open_start

    def append(self, record: Record, key: int) -> None:
        """Add the next record; write a file if it completes one; raises OSError."""
        self._open.append(
            {
                **row_of(record, self._class_names),
                "share_key": key,
                "thumbnail": record.thumbnail,
            }
        )
        if len(self._open) >= self._segment_rows:
            self.flush()

    def flush(self) -> None:
        """Write the records that are in no file yet; raises OSError."""
        if not self._open:
            return
        metadata = {**self._schema.metadata, _PROVENANCES: json.dumps(self.provenances)}
        schema = self._schema.with_metadata(metadata)
        table = pa.Table.from_pylist(self._open, schema)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        path = self._path(self._open_start)
        with whole_file(path) as file, pa.ipc.new_file(file, schema, options=options) as writer:
            writer.write_table(table)
        self._starts.append(self._open_start)
        self._open_start += len(self._open)
        self._open = []

    def place_of(self, provenance: str) -> int:
        """Return the place of an origin in the list, which it joins if it is new."""
        if provenance not in self.provenances:
            self.provenances.append(provenance)
        return self.provenances.index(provenance)

    def record(self, index: int) -> Record:
        """Return a record of the log."""
        if index >= self._open_start:
            row = self._open[index - self._open_start]
        else:
            start = self._starts[bisect_right(self._starts, index) - 1]
            (row,) = self._read(start).slice(index - start, 1).to_pylist()
        return record_of(row)

    def tables(self) -> Iterator[pa.Table]:
        """Yield the files' rows, in order of index."""
        for start in self._starts:
            yield self._read(start)

    def _recover(self) -> None:
        found = sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        for path in found:
            start = int(path.stem)
            if start != self._open_start:
                raise OutputRefused(
                    f"{self._folder} lacks the records from {self._open_start} on: delete the "
                    f"folder {self._folder.parents[1]} and audit again"
                )
            table = self._read(start)
            self._starts.append(start)
            self._open_start += table.num_rows
            self.provenances = json.loads(table.schema.metadata[_PROVENANCES])
            pairs = zip(table["share_key"].to_pylist(), table["index"].to_pylist(), strict=True)
            for key, index in pairs:
                if key:
                    self.keys.setdefault(key, index)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:012d}.arrow"

    def _read(self, start: int) -> pa.Table:
        path = self._path(start)
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                return reader.read_all()
        except pa.ArrowException as error:
            raise OutputRefused(
                f"{path} is damaged ({error}): delete it and the files after it, and run the same "
                "command again"
            ) from error
