import numpy as np
from audit_tables import cue_table, evidence_table
from textcam_client.audit.findings.causes.bases import bases_of
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.units import units_of

SETTINGS = FindingSettings(slice_values=3)


def bases(table):
    return list(bases_of(units_of(table), SETTINGS))


def test_a_column_of_two_values_is_one_comparison_and_of_three_is_three():
    light = np.array(["day", "night", ""] * 20, object)
    place = np.array(["a", "b", "c"] * 20, object)
    table = evidence_table(np.ones((60, 3)), [0] * 60, slices={"light": light, "place": place})
    texts = [basis.text for basis in bases(table)]
    assert texts == [
        "right against wrong",
        "slice light: day against night",
        "slice place: a against others",
        "slice place: b against others",
        "slice place: c against others",
    ]
    assert bases(table)[1].counts == {"light = day": 20, "light = night": 20}
    assert len({basis.key for basis in bases(table)}) == 5


def test_the_side_that_has_more_is_named_first():
    light = np.array(["day: dim", "night"] * 20, object)
    table = evidence_table(np.ones((40, 3)), [0] * 40, slices={"light: all": light})
    _, own = bases(table)
    assert own.toward(1) == own.text == "slice light: all: day: dim against night"
    assert own.toward(-1) == "slice light: all: night against day: dim"


def test_a_column_of_names_and_one_of_a_single_value_are_no_slices():
    names = np.array([f"image {number}" for number in range(8)], object)
    same = np.array(["x"] * 8, object)
    table = evidence_table(np.ones((8, 3)), [0] * 8, slices={"name": names, "same": same})
    assert [basis.text for basis in bases(table)] == ["right against wrong"]


def test_the_choosing_and_the_measuring_half_share_no_image():
    basis = bases(cue_table(np.random.default_rng(0), 100))[1]
    sample = basis.sample(0.25)
    ones, others = basis.measured(basis.evidence([1])[:, 0])
    assert len(sample.values) + len(ones) + len(others) == 100
    assert not set(sample.values[:, 1].tolist()) & set(ones.tolist())
    assert basis.fewest() == min(sample.side.sum(), (~sample.side).sum(), len(ones), len(others))


def test_without_labels_right_and_wrong_are_not_compared():
    assert bases(evidence_table(np.ones((8, 3)), [-1] * 8, [0] * 8)) == []
