import numpy as np
import pytest
from scipy import stats
from textcam_client.audit.statistics import intervals
from textcam_client.audit.statistics.intervals import (
    RESAMPLES,
    difference_estimate,
    mean_estimates,
    proportion_difference,
    proportion_estimate,
    ratio_estimates,
    worst_group,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ends(estimate):
    return np.array([estimate.low, estimate.high])


def test_the_interval_of_a_mean_is_scipys_bca(rng):
    values = rng.exponential(size=(60, 3))
    for column, estimate in enumerate(mean_estimates(values, 0.05, 0)):
        own = stats.bootstrap((values[:, column],), np.mean, n_resamples=RESAMPLES, rng=0)
        assert ends(estimate) == pytest.approx(list(own.confidence_interval), abs=1e-9)
        assert estimate.value == pytest.approx(values[:, column].mean())


def test_the_share_is_a_ratio_of_sums_with_scipys_bca(rng):
    parts, rest = rng.exponential(size=(2, 80))
    whole = parts + rest
    estimate = ratio_estimates(parts[:, None], whole, 0.05, 0)[0]
    own = stats.bootstrap(
        (parts, whole),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=RESAMPLES,
        rng=0,
    )
    assert estimate.value == pytest.approx(parts.sum() / whole.sum())
    assert ends(estimate) == pytest.approx(list(own.confidence_interval), abs=1e-9)


def test_a_share_of_what_may_be_nothing_is_not_given(rng):
    whole = rng.normal(0.02, 1, 50)
    assert ratio_estimates(whole[:, None] * 0.6, whole, 0.05, 0) == [None]


def test_a_mean_of_ratios_would_be_useless_where_the_ratio_of_sums_is_not(rng):
    whole = rng.normal(1.0, 1.0, 300)  # crosses 0
    parts = 0.6 * whole + rng.normal(0, 0.3, 300)
    estimate = ratio_estimates(parts[:, None], whole, 0.05, 0)[0]
    assert 0.5 < estimate.low < 0.6 < estimate.high < 0.7
    assert (parts / whole).std() > 1


@pytest.mark.parametrize("size", [intervals.LARGE - 1, intervals.LARGE])
def test_normal_theory_takes_over_without_a_jump(rng, size):
    values = rng.exponential(size=(size, 1))
    half = stats.norm.isf(0.025) * values.std(ddof=1) / np.sqrt(size)
    low, high = ends(mean_estimates(values, 0.05, 0)[0])
    assert high - low == pytest.approx(2 * half, rel=0.05)


def test_the_large_ratio_agrees_with_the_bootstrap(rng, monkeypatch):
    parts, rest = rng.exponential(size=(2, 500))
    large = ratio_estimates(parts[:, None], parts + rest, 0.05, 0)[0]
    monkeypatch.setattr(intervals, "LARGE", 1000)
    small = ratio_estimates(parts[:, None], parts + rest, 0.05, 0)[0]
    assert ends(large) == pytest.approx(ends(small), abs=0.003)


def test_intervals_of_a_difference_cover_it(rng):
    covered = 0
    for seed in range(60):
        ones, others = rng.exponential(2, 40), rng.exponential(1, 60)
        low, high = ends(difference_estimate(ones, others, 0.1, seed))
        covered += low <= 1 <= high
    assert 45 <= covered <= 60


@pytest.mark.parametrize(
    ("values", "note"),
    [([], "fewer than 2"), ([1.0], "fewer than 2"), ([2.0, 2.0, 2.0], "equal")],
)
def test_degenerate_samples_have_no_interval_and_say_why(values, note):
    values = np.array(values)
    estimate = mean_estimates(values[:, None], 0.05, 0)[0]
    assert estimate.low is None
    assert note in estimate.note
    if len(values) < 2:
        assert note in difference_estimate(values, np.arange(5.0), 0.05, 0).note


@pytest.mark.parametrize(("count", "total"), [(0, 20), (20, 20), (7, 20)])
def test_a_proportions_interval_is_wilsons(count, total):
    low, high = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert ends(proportion_estimate(count, total, 0.05)) == pytest.approx([low, high], abs=1e-9)


def test_no_cases_are_said_to_be_none():
    assert proportion_estimate(0, 0, 0.05).note == "no cases"
    assert proportion_difference((0, 0), (3, 9), 0.05).low is None


def test_differences_of_proportions_are_newcombes():
    """Newcombe 1998, table II: 56/70 against 48/80 gives 0.0524 to 0.3339; and both at 0."""
    assert ends(proportion_difference((56, 70), (48, 80), 0.05)) == pytest.approx(
        [0.0524, 0.3339], abs=1e-4
    )
    low, high = ends(proportion_difference((0, 10), (0, 20), 0.05))
    assert -1 <= low < 0 < high <= 1


def test_the_worst_groups_interval_is_of_the_minimum(rng):
    groups = [rng.random(50) < 0.8 for _ in range(10)]
    worst = worst_group(groups, 0.05, 0)
    assert worst.value == min(group.mean() for group in groups)
    assert worst.low < worst.value
    assert worst_group([np.zeros(0, bool)], 0.05, 0).note
