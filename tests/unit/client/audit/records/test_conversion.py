"""Records become rows of the schema, and rows records."""

import numpy as np
import pyarrow as pa
import pytest
from audit_samples import CLASSES, failed, record, work_rows
from textcam_client.audit.records.conversion import outcome, record_of, row_of
from textcam_client.audit.records.schema import work_schema

SAMPLES = {
    "right": record(0),
    "wrong": record(1, label=2, predicted=1, thumbnail=b"picture"),
    "unlabelled": record(2, label=-1, slices={"light": ""}),
    "failed": failed(3),
    "degraded": record(4, degradations=["no_contrast"], mask_failure="no mask", provenance=2),
}


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__
        )
    return one == other or list(one) == list(other)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_record_comes_back_from_its_row(name):
    table = pa.Table.from_pylist(work_rows([SAMPLES[name]]), work_schema(["light"]))
    (row,) = table.to_pylist()
    assert same(record_of(row), SAMPLES[name])


@pytest.mark.parametrize("name", ["right", "wrong", "unlabelled", "failed"])
def test_the_outcome_of_a_row(name):
    assert outcome(SAMPLES[name]) == name
    assert row_of(SAMPLES[name], CLASSES)["outcome"] == name


def test_missing_whole_numbers_are_minus_one_and_other_missing_values_null():
    row = row_of(SAMPLES["failed"], CLASSES)
    numbers = ("label_index", "predicted_index", "target_index", "error_target_index")
    assert [row[name] for name in (*numbers, "error_reference_index")] == [-1] * 5
    assert [row[name] for name in ("label", "predicted_name", "logit", "digest_pixels")] == [
        None
    ] * 4
