"""Review of records before anything is concluded from them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_samples import description, failed, record, target, work_rows
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.records.loading import load_evidence
from textcam_client.audit.records.review import Review, Unsound
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import RECORDS, write_records


def table_of(records):
    return pa.Table.from_pylist(work_rows(records), work_schema(["light"]))


SOUND = table_of([record(0), failed(1), record(2, label=1, predicted=2)])


def reviewed(table, **described):
    review = Review(description(**described))
    for batch in table.combine_chunks().to_batches(max_chunksize=2):
        review.add(batch)
    review.finish()


def changed(column, row, value):
    values = SOUND[column].to_pylist()
    values[row] = value
    place = SOUND.schema.get_field_index(column)
    return SOUND.set_column(place, column, pa.array(values, SOUND.schema.field(place).type))


def test_sound_records_pass():
    reviewed(SOUND)


@pytest.mark.parametrize(
    ("column", "row", "value", "told"),
    [
        ("index", 2, 1, "index of row 2 is not its place"),
        ("logit", 0, None, "logit of row 0 is no finite number"),
        ("logit", 2, np.nan, "logit of row 2 is no finite number"),
        ("error_bias", 2, np.inf, "error_bias of row 2 is no finite number"),
        ("target_index", 0, 9999, "target_index of row 0 is no class of the model"),
        ("target_index", 0, -1, "target_index of row 0 names no class"),
        ("predicted_index", 2, -1, "predicted_index of row 2 names no class"),
        ("label_index", 1, 3, "label_index of row 1 is no class"),
        ("error_reference_index", 2, -1, "error_reference_index of row 2 names no class"),
        ("content_digest", 0, "", "content_digest of row 0 is no digest"),
        ("row_id", 1, None, "row_id of row 1 is missing"),
        ("phrases", 2, None, "phrases of row 2 is missing"),
    ],
)
def test_values_that_no_audit_writes_are_named(column, row, value, told):
    with pytest.raises(Unsound, match=told):
        reviewed(changed(column, row, value))


@pytest.mark.parametrize("change", [{"vocabulary_index": 4}, {"evidence": float("nan")}])
def test_phrases_must_be_the_models(change):
    phrases = [replace(target(0).phrases[0], **change)]
    bad = record(2, target=replace(target(0), phrases=phrases))
    with pytest.raises(Unsound, match="phrases of row 2 holds a phrase that is not the model's"):
        reviewed(table_of([record(0), failed(1), bad]))


def test_lost_rows_are_counted_against_the_audit(tmp_path):
    write_records([SOUND], ["light"], tmp_path)
    assert load_evidence(tmp_path, description()).row_count == 3
    pq.write_table(pq.read_table(tmp_path / RECORDS).slice(0, 2), tmp_path / RECORDS)
    with pytest.raises(OutputRefused, match=r"it has 2 rows, and the audit has 3.: put back"):
        load_evidence(tmp_path, description())
