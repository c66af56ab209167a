"""Files of an audit from its segments."""

import csv
import io

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_samples import failed, record, work_rows
from PIL import Image
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import FAILURES, RECORDS, ROW_GROUP, write_records


def thumbnail(colour, size=(96, 48)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "WEBP", lossless=True)
    return file.getvalue()


def segments(records, size):
    for start in range(0, len(records), size):
        rows = work_rows(records[start : start + size])
        yield pa.Table.from_pylist(rows, work_schema(["light"]))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    records = [
        record(0, thumbnail=thumbnail("red")),
        record(1, label=1, predicted=2),
        failed(2, label="zebra"),
        record(3, label=-1),
    ]
    write_records(segments(records, 3), ["light"], folder)
    return folder


def test_pandas_polars_and_duckdb_read_the_same_values(written):
    path = str(written / RECORDS)
    frames = [
        pd.read_parquet(path).to_dict("list"),
        pl.read_parquet(path).to_dict(as_series=False),
        duckdb.sql(f"select * from '{path}'").to_arrow_table().to_pydict(),
    ]
    for frame in frames:
        assert frame["index"] == [0, 1, 2, 3]
        assert frame["label_index"] == [0, 1, -1, -1]
        assert frame["outcome"] == ["right", "wrong", "failed", "unlabelled"]
        assert frame["slice_light"] == ["night", "day", "", "day"]
        assert (frame["sheet"], frame["cell"]) == ([0, -1, -1, -1], [0, -1, -1, -1])
        assert list(frame["channel_evidence"][1]) == [1.5, -0.25]
        assert [phrase["text"] for phrase in frame["phrases"][0]] == ["fur", "sky"]
        assert frame["phrases"][0][1]["inside"] is None
        assert list(frame["phrases"][2]) == []
    assert pd.read_parquet(path)["label_index"].dtype == "int32"


def test_failures_are_listed_with_their_reason(written):
    with (written / FAILURES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["index"], row["label"], row["failure_reason"]) for row in rows] == [
        ("2", "zebra", "IMAGE_UNREADABLE")
    ]


def test_a_thumbnail_lies_in_the_middle_of_its_cell(written):
    sheet = Image.open(written / "sprites" / "0000.webp")
    assert sheet.size == (960, 96)
    red, green, blue, alpha = sheet.getpixel((48, 48))
    assert (red > 240, green < 20, blue < 20, alpha) == (True, True, True, 255)
    assert sheet.getpixel((48, 10))[3] == 0
    assert sheet.getpixel((96 + 48, 48))[3] == 0


def test_the_bytes_do_not_depend_on_the_segments(tmp_path):
    records = [record(index) for index in range(2 * ROW_GROUP + 7)]
    for name, size in (("one", 50), ("other", 333)):
        (tmp_path / name).mkdir()
        write_records(segments(records, size), ["light"], tmp_path / name)
    one, other = ((tmp_path / name / RECORDS).read_bytes() for name in ("one", "other"))
    assert one == other
    with pq.ParquetFile(tmp_path / "one" / RECORDS) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [ROW_GROUP, ROW_GROUP, 7]


def test_an_error_on_the_way_leaves_nothing_in_part(tmp_path):
    def broken():
        yield from segments([record(0)], 1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(broken(), ["light"], tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
