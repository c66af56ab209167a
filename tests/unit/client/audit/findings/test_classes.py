import numpy as np
import pytest
from audit_tables import evidence_table
from textcam_client.audit.findings.classes import accuracy, class_summary
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.units import units_of


def summary(table, **settings):
    units = units_of(table)
    return class_summary(table, 0, units, FindingSettings(**settings))


def test_concepts_come_by_mean_evidence_with_share_prevalence_and_spread():
    evidence = np.array([[2, 0.0, 1], [4, 0.5, 1], [6, 0.0, 1], [8, 0.5, 1]])
    found = summary(evidence_table(evidence, [0] * 4))
    assert [concept.text for concept in found.concepts] == ["fur", "sky", "grass"]
    fur, sky, grass = found.concepts
    assert fur.evidence.value == 5
    assert fur.pooled_share.value == pytest.approx(20 / 25)
    assert fur.spread == pytest.approx(np.std([2, 4, 6, 8], ddof=1))
    assert grass.prevalence.value == 0.5
    assert sky.spread == 0
    assert sky.evidence.low is None  # all values are equal


def test_examples_go_from_the_highest_to_the_lowest_by_index():
    evidence = np.zeros((9, 3))
    evidence[:, 0] = [5, 1, 9, 3, 7, 2, 8, 4, 6]
    table = evidence_table(evidence, [0] * 9, index=np.arange(9) + 100)
    assert summary(table, example_count=3).concepts[0].images == [102, 100, 101]


def test_accuracy_is_given_by_slice_too():
    light = np.array(["day", "day", "night", "night", ""], object)
    table = evidence_table(np.ones((5, 3)), [0] * 5, [0, 0, 0, 1, 0], slices={"light": light})
    found = summary(table)
    assert found.accuracy.value == 0.8
    assert found.slices["light: day"].value == 1
    assert found.slices["light: night"].value == 0.5


def test_without_labels_there_is_no_accuracy():
    assert accuracy(np.full(3, -1, np.int8), 0.05) is None


def test_shares_are_for_evidence_in_logits_alone():
    table = evidence_table(np.ones((5, 3)), [0] * 5, in_logit_units=False)
    assert summary(table).concepts[0].pooled_share is None
