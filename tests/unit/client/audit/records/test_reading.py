"""Reading of records.parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_samples import description, failed, record, work_rows
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.description import write_description
from textcam_client.audit.records.reading import read_records, record_batches
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import RECORDS, write_records


def test_records_come_back_in_order_of_index(tmp_path):
    given = [record(0), failed(1), record(2, label=1)]
    write_records(
        [pa.Table.from_pylist(work_rows(given), work_schema(["light"]))], ["light"], tmp_path
    )
    found = list(read_records(tmp_path))
    assert [(one.index, one.failure_reason) for one in found] == [
        (0, ""), (1, "IMAGE_UNREADABLE"), (2, ""),
    ]  # fmt: skip
    assert found[2].error.reference_index == 1
    assert found[0].slices == {"light": "night"}
    (batch,) = record_batches(tmp_path, ["index"])
    assert batch.column_names == ["index"]


def test_a_folder_without_records_is_refused_in_words(tmp_path):
    with pytest.raises(OutputRefused, match=r"holds no finished audit: it has no records\.parquet"):
        list(read_records(tmp_path))


def test_records_that_were_taken_away_are_told(tmp_path):
    write_description(tmp_path / "audit.json", description())
    with pytest.raises(
        OutputRefused, match=r"has audit\.json but no records\.parquet: put it back"
    ):
        list(read_records(tmp_path))


def test_missing_and_changed_columns_are_named(tmp_path):
    rows = pa.Table.from_pylist(work_rows([record(0)]), work_schema(["light"]))
    write_records([rows], ["light"], tmp_path)
    table = pq.read_table(tmp_path / RECORDS)
    pq.write_table(table.drop(["phrases"]), tmp_path / RECORDS)
    with pytest.raises(OutputRefused, match="column 'phrases' is missing"):
        list(record_batches(tmp_path, ["index"]))
    pq.write_table(table.drop(["slice_light"]), tmp_path / RECORDS)
    with pytest.raises(OutputRefused, match="column 'slice_light' is missing"):
        list(record_batches(tmp_path, ["slice_light"]))
    texts = table.set_column(table.schema.get_field_index("logit"), "logit", pa.array(["x"]))
    pq.write_table(texts, tmp_path / RECORDS)
    with pytest.raises(OutputRefused, match="column 'logit' holds string, not float"):
        list(read_records(tmp_path))


def test_a_file_of_something_else_is_refused_in_words(tmp_path):
    pq.write_table(pa.table({"index": [0]}), tmp_path / RECORDS)
    with pytest.raises(OutputRefused, match="has the schema 'of no audit'"):
        list(read_records(tmp_path))
    (tmp_path / RECORDS).write_bytes(b"no parquet")
    with pytest.raises(OutputRefused, match="is damaged"):
        list(read_records(tmp_path))
