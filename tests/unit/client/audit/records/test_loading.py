"""Loading of an audit as arrays."""

import numpy as np
import pyarrow as pa
import pytest
from audit_samples import description, digest, failed, record, work_rows
from textcam_client.audit.records.description import write_description
from textcam_client.audit.records.loading import load_evidence
from textcam_client.audit.records.schema import work_schema
from textcam_client.audit.records.writer import write_records

RECORDS = [
    record(0),
    failed(1, label="zebra"),
    record(2, label=1, predicted=2, content_digest=digest("content 0")),
    record(3, label=-1, degradations=["no_groups"]),
]


@pytest.fixture
def folder(tmp_path):
    table = pa.Table.from_pylist(work_rows(RECORDS), work_schema(["light"]))
    write_records([table], ["light"], tmp_path)
    write_description(tmp_path / "audit.json", description(rows=4))
    return tmp_path


def test_rows_without_an_answer_are_counted_and_left_out(folder):
    table = load_evidence(folder)
    assert table.index.tolist() == [0, 2, 3]
    assert (table.row_count, table.failures, table.unknown_labels, table.duplicates) == (
        4, {"IMAGE_UNREADABLE": 1}, {"zebra": 1}, 1,
    )  # fmt: skip
    assert table.label_index.tolist() == [0, 1, -1]
    assert table.predicted_index.tolist() == [0, 2, 0]
    assert table.target_index.tolist() == [0, 1, 0]
    assert table.correct.tolist() == [True, False, False]
    assert table.degraded.tolist() == [False, False, True]
    assert table.slices["light"].tolist() == ["night", "night", "day"]
    assert table.content_group[0] == table.content_group[1] != table.content_group[2]
    assert len(set(table.row_key.tolist())) == 3


def test_concepts_rest_bias_and_gap_add_up_to_the_logit(folder):
    table = load_evidence(folder)
    assert (table.concepts, table.names, table.kinds) == (
        (0, 3), ("fur", "sky"), ("texture", ""),
    )  # fmt: skip
    assert table.evidence.toarray().tolist() == [[1.5, -0.25]] * 3
    total = table.evidence.sum(axis=1) + table.rest + table.bias + table.gap
    np.testing.assert_allclose(total, table.logit, atol=1e-6)
    assert table.rest.tolist() == [0.5] * 3


def test_wrong_predictions_have_their_contrast(folder):
    contrasts = load_evidence(folder).contrasts
    assert (contrasts.rows.tolist(), contrasts.target_index.tolist()) == ([1], [2])
    assert contrasts.reference_index.tolist() == [1]
    assert contrasts.evidence.toarray().tolist() == [[1.5, -0.25]]


def test_shares_inside_masks_keep_their_zeros_and_only_for_what_was_said(folder):
    inside = load_evidence(folder).inside
    assert inside.nnz == 3
    assert inside.indices.tolist() == [0, 0, 0]
    assert load_evidence(folder, description(rows=4, masks=False)).inside is None
