import numpy as np
from audit_tables import evidence_table
from textcam_client.audit.statistics.units import RIGHT, UNJUDGED, WRONG, in_search_half, units_of


def test_rows_of_equal_content_are_one_unit_with_their_mean():
    table = evidence_table(
        [[1, 0, 0], [3, 0, 2], [5, 5, 5]], [0, 0, 0], content_group=np.array([7, 7, 9])
    )
    units = units_of(table)
    assert units.row.tolist() == [0, 2]
    assert units.size.tolist() == [2, 1]
    assert units.evidence.toarray().tolist() == [[2, 0, 1], [5, 5, 5]]
    assert units.logit.tolist() == [3, 15]


def test_equal_content_under_two_labels_is_a_unit_of_each_class():
    table = evidence_table([[1, 0, 0], [3, 0, 0]], [0, 1], content_group=np.array([7, 7]))
    assert units_of(table).class_index.tolist() == [0, 1]


def test_rows_that_differ_are_unjudged_and_on_no_slice():
    table = evidence_table(
        np.ones((4, 3)),
        [0, 0, 0, 0],
        [0, 1, 1, 0],
        content_group=np.array([1, 1, 2, 3]),
        slices={"light": np.array(["day", "night", "day", "day"], object)},
    )
    units = units_of(table)
    assert units.right.tolist() == [UNJUDGED, WRONG, RIGHT]
    assert units.slices["light"].tolist() == ["", "day", "day"]


def test_degraded_rows_and_unknown_labels_do_not_count_as_answers():
    table = evidence_table(
        np.ones((3, 3)), [0, -1, 0], [0, 0, 0], degraded=np.array([False, False, True])
    )
    units = units_of(table)
    assert units.row.tolist() == [0, 1]
    assert units.right.tolist() == [RIGHT, UNJUDGED]


def test_halves_are_about_equal_and_stay_the_same():
    keys = np.arange(10_000)
    half = in_search_half(keys)
    assert 0.48 < half.mean() < 0.52
    assert abs(np.corrcoef(half[1:], half[:-1])[0, 1]) < 0.05
    assert np.array_equal(half[:100], in_search_half(keys[:100]))


def test_an_audit_without_answers_has_no_units():
    assert list(units_of(evidence_table(np.zeros((0, 3)), [])).classes()) == []
