import re
from dataclasses import replace

import numpy as np
import pytest
from audit_tables import cue_table, evidence_table, rows_taken
from scipy.sparse import csr_array
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.summary import summarise
from textcam_client.audit.statistics.units import in_search_half

SETTINGS = FindingSettings(permutations=1999)


@pytest.fixture(scope="module")
def table():
    return cue_table(np.random.default_rng(0))


@pytest.fixture(scope="module")
def summary(table):
    return summarise(table, settings=SETTINGS)


def test_a_planted_cue_is_the_first_finding_with_its_effect(summary, table):
    first = summary.findings[0]
    assert (first.kind, first.class_name, first.concepts) == ("spurious_cue", "cow", ("grass",))
    assert first.adjusted_p < 0.001
    assert first.effect.low < 1 < first.effect.high
    assert "right against wrong" in first.statement
    evidence = table.evidence.toarray()[:, 1]
    half = len(first.images) // 2
    assert evidence[list(first.images[:half])].min() > evidence[list(first.images[half:])].max()


def test_a_finding_tells_the_evidence_on_both_sides(summary):
    told = r"gives it (-?[\d.]+) .* more there \((-?[\d.]+) against (-?[\d.]+)\)\."
    effect, more, less = map(float, re.search(told, summary.findings[0].statement).groups())
    assert effect == pytest.approx(1, abs=0.2)
    assert more - less == pytest.approx(effect, abs=0.011)


def test_a_slices_effect_is_the_whole_logits(summary, table):
    first = summary.findings[0]
    there, measured = table.slices["place"] == "meadow", ~in_search_half(table.row_key)
    one, other = (table.logit[own & measured].mean() for own in (there, ~there))
    assert first.of_logit
    assert first.is_named
    assert first.effect.value == pytest.approx(abs(one - other))
    assert f"is higher by {abs(one - other):.2f}" in first.statement


@pytest.mark.parametrize(("shift", "first"), [(2.0, "meadow"), (-2.0, "street")])
def test_a_slice_that_moves_the_logit_is_found_though_no_phrase_tells_why(shift, first):
    table = cue_table(np.random.default_rng(4), effect=0.0)
    there = table.slices["place"] == "meadow"
    moved = replace(table, logit=table.logit + shift * there)
    (found,) = summarise(moved, settings=SETTINGS).findings
    assert (found.kind, found.of_logit, found.adjusted_p) == ("spurious_cue", True, 1 / 2000)
    assert not found.is_named
    assert found.basis.startswith(f"slice place: {first} against ")
    assert found.effect.low < 2 < found.effect.high
    assert "No phrase alone accounts for that for sure" in found.statement


def test_one_finding_stands_for_all_values_of_a_slice_column():
    """Images of one of three places have a higher logit, so those of the others have a lower."""
    table = cue_table(np.random.default_rng(4), effect=0.0)
    places = np.array(["meadow", "street", "beach"], object)[np.arange(len(table.logit)) % 3]
    moved = replace(table, logit=table.logit + 3.0 * (places == "beach"), slices={"place": places})
    (found,) = summarise(moved, settings=SETTINGS).findings
    assert found.basis == "slice place: beach against others"


def test_a_slices_logit_makes_no_finding_where_a_list_knows_the_class():
    table = cue_table(np.random.default_rng(4), effect=0.0)
    moved = replace(table, logit=table.logit + 2.0 * (table.slices["place"] == "meadow"))
    assert summarise(moved, ConceptLists({"cow": ["fur"]}), SETTINGS).findings == []


def test_concepts_that_one_slice_shows_are_one_finding_whose_slice_comes_first():
    """Two concepts, apart from each other, that the same images have."""
    rng = np.random.default_rng(5)
    table = cue_table(rng)
    evidence = table.evidence.toarray()
    there = table.slices["place"] == "meadow"
    evidence[:, 2] = 0.8 * there + rng.normal(0, 1.0, len(there))
    evidence[:, 1] += rng.normal(0, 1.0, len(there))
    found = summarise(replace(table, evidence=csr_array(evidence)), settings=SETTINGS).findings
    (own,) = (finding for finding in found if finding.kind == "spurious_cue")
    assert sorted(own.concepts) == sorted(table.names[1:3])
    assert own.basis.startswith("slice place: meadow against ")
    assert own.effect.value > 0
    assert own.statement.startswith("In images with place = meadow, the logit of 'cow' is higher")


def test_the_same_cue_is_one_finding(summary):
    assert sum("grass" in finding.concepts for finding in summary.findings) == 1


def test_without_slices_it_is_a_cause_of_errors_that_a_person_must_judge(table):
    found = summarise(replace(table, slices={}), settings=SETTINGS).findings
    assert [(each.kind, each.concepts) for each in found] == [("error_cause", ("grass",))]
    assert "must judge" in found[0].statement


def test_without_slices_a_list_decides(table):
    bare = replace(table, slices={})
    for allowed, kind in ((["fur"], "spurious_cue"), (["fur", "grass"], "error_cause")):
        found = summarise(bare, ConceptLists({"cow": allowed}), SETTINGS).findings
        assert [each.kind for each in found] == [kind]


def test_nothing_found_says_what_would_have_been_seen():
    table = cue_table(np.random.default_rng(1), effect=0.0)
    summary = summarise(table, settings=SETTINGS)
    assert summary.findings == []
    assert [each.basis for each in summary.nothing_found] == [
        "right against wrong",
        "slice place: meadow against street",
    ]
    for each in summary.nothing_found:
        assert 0.02 < each.largest_missed < 0.5


def test_too_few_images_are_said_to_be_too_few():
    table = cue_table(np.random.default_rng(1), 12)
    nothing = summarise(table, settings=SETTINGS).nothing_found[0]
    assert nothing.largest_missed is None
    assert "needs 5 images" in nothing.reason


def test_copies_of_an_image_add_nothing(table, summary):
    """1,000 copies of an image do not make its concept a finding."""
    places = np.concatenate([np.arange(400), np.zeros(1000, int)])
    copied = replace(rows_taken(table, places), row_key=np.arange(1400))
    found = summarise(copied, settings=SETTINGS)
    assert found.counts["images_in_statistics"] == 400
    assert found.findings[0].effect.value == pytest.approx(summary.findings[0].effect.value)
    assert found.findings[0].effect.low == pytest.approx(summary.findings[0].effect.low)


def test_masks_find_what_lies_beside_the_object():
    table = cue_table(np.random.default_rng(2), effect=2.0, prevalence=1.0)
    shares = np.tile([0.8, 0.05, 0.0], (400, 1)) + np.random.default_rng(3).normal(
        0, 0.01, (400, 3)
    )
    kept = np.nonzero(np.tile([True, True, False], (400, 1)))
    inside = csr_array((shares[kept], kept), shape=(400, 3))
    summary = summarise(replace(table, slices={}, inside=inside), settings=SETTINGS)
    cue = summary.findings[0]
    assert (cue.kind, cue.concepts) == ("spurious_cue", ("grass",))
    assert cue.inside.value == pytest.approx(0.05, abs=0.01)
    assert summary.settings["tests_sharing_the_level"] == 2


@pytest.mark.parametrize("labels", [[], [0], [0, 1], [-1, -1]])
def test_data_sets_of_nothing_one_two_and_no_labels_have_a_summary(labels):
    table = evidence_table(np.ones((len(labels), 3)), labels, np.zeros(len(labels)))
    summary = summarise(table, settings=SETTINGS)
    assert summary.findings == []
    assert sum(each.count for each in summary.classes) == len(labels)
    assert (summary.accuracy is None) == (not any(label >= 0 for label in labels))


def test_degraded_answers_are_told_and_left_out(table):
    marked = replace(table, degraded=np.arange(400) < 10)
    summary = summarise(marked, settings=SETTINGS)
    assert summary.counts["degraded"] == 10
    assert summary.counts["images_in_statistics"] == 390
    assert any("10 degraded" in note for note in summary.notes)


def test_a_column_of_names_is_told(table):
    names = np.array([str(number) for number in range(400)], object)
    notes = summarise(replace(table, slices={"name": names}), settings=SETTINGS).notes
    assert any("'name' has 400 values" in note for note in notes)
