from dataclasses import replace

import numpy as np
import pytest
from audit_tables import evidence_table, rows_taken
from textcam_client.audit.errors import NotComparable
from textcam_client.audit.findings.changes import compare
from textcam_client.audit.findings.settings import FindingSettings

SETTINGS = FindingSettings(permutations=1999)


def audits(shift=0.0, lost=0, n=200, seed=0):
    """Two audits whose images vary by 2 logits, and whose answers to an image by 0.1."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(2, 2, (n, 3))
    both = [
        evidence_table(shared + rng.normal(0, 0.1, (n, 3)) + [0, moved, 0], np.zeros(n), guess)
        for moved, guess in ((0, np.zeros(n)), (shift, np.arange(n) < lost))
    ]
    return [replace(table, class_names=("cow", "dog")) for table in both]


def test_a_shift_far_below_the_images_own_spread_is_found_by_pairs():
    found = compare(*audits(shift=-0.5), SETTINGS).findings
    assert [(each.kind, each.concepts) for each in found] == [("comparison", ("grass",))]
    assert found[0].effect.low < -0.5 < found[0].effect.high
    assert found[0].adjusted_p < 0.001
    assert "less evidence" in found[0].statement


def test_accuracy_flips_are_found_with_their_images():
    found = compare(*audits(lost=20), SETTINGS).findings
    assert len(found) == 1
    assert found[0].counts == {"became wrong": 20, "became right": 0, "pairs": 200}
    assert set(found[0].images) <= set(range(20))
    assert found[0].effect.value == -0.1


def test_equal_audits_have_no_finding_and_say_how_equal():
    changes = compare(*audits(), SETTINGS)
    assert changes.findings == []
    assert 0 < changes.nothing_found[0].largest_missed < 0.1
    assert changes.pairs == 200


def test_rows_are_paired_by_key_whatever_their_order():
    before, after = audits(shift=-0.5)
    order = np.random.default_rng(1).permutation(200)[:150]
    moved = rows_taken(after, order)
    changes = compare(before, moved, SETTINGS)
    assert changes.pairs == 150
    assert abs(changes.findings[0].effect.value + 0.5) < 0.05


def test_concepts_of_one_audit_only_are_told():
    before, after = audits(shift=-0.5)
    changes = compare(before, replace(after, names=("fur", "grass", "cloud")), SETTINGS)
    assert [each.concepts for each in changes.findings] == [("grass",)]
    assert any("2 concepts" in note for note in changes.notes)


def test_audits_of_different_data_are_no_comparison():
    before, after = audits()
    with pytest.raises(NotComparable, match=r"share no image.*audit of the same data set"):
        compare(before, replace(after, row_key=after.row_key + 1000), SETTINGS)


def test_images_of_one_audit_alone_are_told():
    before, after = audits()
    assert not any("compared on" in note for note in compare(before, after, SETTINGS).notes)
    few = replace(after, row_key=np.where(np.arange(200) < 30, after.row_key, after.row_key + 1000))
    notes = compare(before, few, SETTINGS).notes
    assert any("compared on 30 images, of 200 in the first and 200 in" in note for note in notes)
