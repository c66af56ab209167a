"""Records become rows whose parts add up to the logit."""

import dataclasses

import numpy as np
import pytest
from textcam_client.audit.records.record import PhraseRecord, Record, TargetRecord
from textcam_client.audit.report.from_records import RowsFromRecords


def target(class_index, reference_index=None):
    return TargetRecord(
        class_index=class_index,
        reference_index=reference_index,
        logit=3.0,
        bias=0.5,
        gap=0.25,
        in_logit_units=True,
        phrases=[
            PhraseRecord("water", 1, "thing", 0.9, 1.5, 1.6),
            PhraseRecord("fur", 0, "", None, -0.25, 0.5),
        ],
        rest_evidence=1.0,
        channel_ids=np.array([0, 2, 3, 1], np.int32),
        channel_evidence=np.array([1.0, 0.25, 0.5, -0.25], np.float32),
    )


def record(**facts):
    return Record(
        0, "a.jpg", "/x/a.jpg", "sha256:0", "otter", 1, {"light": "day", "lens": ""}, **facts
    )


def test_concepts_are_the_phrases_that_were_said_with_their_shares():
    given = record(predictions=[(1, 0.7, 3.0), (0, 0.2, 1.0)], target=target(1), error=target(0, 1))
    row = RowsFromRecords().row(given)
    assert row.target.concepts == {"water": 1.5, "fur": -0.25}
    assert row.target.bias == pytest.approx(0.75)
    assert row.predictions == [(1, 0.7), (0, 0.2)]
    assert (row.error.class_index, row.error.reference_index) == (0, 1)
    assert [own.text for own in row.phrases] == ["water", "fur"]
    assert row.right is True
    assert row.slices == {"light": "day"}


def test_failures_have_nothing_but_their_sentence():
    row = RowsFromRecords().row(record(failure="broken"))
    assert row.failure == "broken"
    assert row.target is row.error is row.right is None


def test_degraded_answers_are_marked():
    row = RowsFromRecords().row(record(degradations=["PHRASES"]))
    assert row.degraded


def test_the_wanted_concepts_are_kept_however_weak():
    amounts = np.linspace(0.01, 1, 100)
    said = [PhraseRecord(f"phrase {n}", n, "", None, float(v), 0.0) for n, v in enumerate(amounts)]
    given = dataclasses.replace(target(1), phrases=said)
    row = RowsFromRecords(["phrase 0"]).row(record(target=given))
    assert row.target.concepts["phrase 99"] == 1.0
    assert row.target.concepts["phrase 0"] == pytest.approx(0.01)
    assert "phrase 1" not in row.target.concepts
