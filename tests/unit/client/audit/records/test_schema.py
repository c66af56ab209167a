"""Schema of records.parquet."""

import pyarrow as pa
from textcam_client.audit.records.schema import VERSION_KEY, final_schema, work_schema


def test_every_column_is_described_and_the_schema_has_a_version():
    schema = final_schema(["light"])
    assert all(field.metadata[b"description"] for field in schema)
    assert schema.metadata[VERSION_KEY] == b"1"
    assert schema.field("slice_light").type == pa.string()


def test_columns_are_plain():
    kinds = {field.type for field in final_schema(["light"])}
    assert not any(pa.types.is_dictionary(kind) or pa.types.is_map(kind) for kind in kinds)


def test_a_segment_has_what_the_sheets_are_made_of():
    last, work = final_schema([]), work_schema([])
    assert set(work.names) - set(last.names) == {"share_key", "thumbnail"}
    assert set(last.names) - set(work.names) == {"sheet", "cell"}
