import numpy as np
import pytest
from scipy import stats
from textcam_client.audit.statistics.pairs import flips, holm


def test_flips_are_judged_by_those_that_changed_alone():
    before = np.array([True] * 12 + [False] * 3 + [True] * 40)
    after = np.array([False] * 12 + [True] * 3 + [True] * 40)
    found = flips(before, after)
    assert (found.lost, found.won, found.total) == (12, 3, 55)
    assert found.p == pytest.approx(stats.binomtest(3, 15).pvalue)


def test_nothing_changed_has_p_one():
    assert flips(np.ones(5, bool), np.ones(5, bool)).p == 1


def test_holm_multiplies_by_what_is_left():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert len(holm(np.zeros(0))) == 0
