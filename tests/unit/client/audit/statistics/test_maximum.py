import numpy as np
import pytest
from scipy import stats
from textcam_client.audit.statistics.maximum import Plan, Sample, maximum_test

PLAN = Plan(permutations=199)


def sample(rng, shift=0.0, n=60, k=20, least=0.0, ones=None):
    values = rng.normal(size=(n, k))
    side = np.arange(n) < (n // 2 if ones is None else ones)
    values[side, 0] += shift
    return Sample(values.astype(np.float32), side, least)


def test_the_difference_and_its_error_are_those_of_welch():
    own = sample(np.random.default_rng(0), 1.0, ones=15)
    found = maximum_test({(0,): lambda: own}, PLAN)[0,]
    one, other = own.values[own.side], own.values[~own.side]
    assert found.difference == pytest.approx(one.mean(0) - other.mean(0), abs=1e-6)
    t = stats.ttest_ind(one, other, equal_var=False).statistic
    freedom = 14  # of the smaller side
    z = stats.norm.isf(stats.t.sf(np.abs(t), freedom))
    assert found.statistic == pytest.approx(z, rel=0.02)  # Wallace's approximation


def test_p_is_that_of_the_maximum_over_all_concepts_and_comparisons():
    """By scipy: one concept alone, so that the maximum is its own statistic."""
    rng = np.random.default_rng(1)
    own = sample(rng, 0.6, n=40, k=1)
    found = maximum_test({(0,): lambda: own}, Plan(permutations=1999))[0,].adjusted_p[0]

    def welch(x, y, axis):
        return np.abs(stats.ttest_ind(x, y, equal_var=False, axis=axis).statistic)

    expected = stats.permutation_test(
        (own.values[own.side, 0], own.values[~own.side, 0]),
        welch,
        alternative="greater",
        n_resamples=1999,
        vectorized=True,
        rng=2,
    ).pvalue
    assert found == pytest.approx(expected, abs=0.015)


def test_without_any_effect_an_audit_errs_as_often_as_the_level_says():
    """Three comparisons of 20 concepts each, one with very few images: one family of tests."""
    errors = 0
    for seed in range(120):
        rng = np.random.default_rng([5, seed])
        own = {(c,): sample(rng, n=40, ones=(20, 20, 5)[c]) for c in range(3)}
        tested = maximum_test({k: lambda s=s: s for k, s in own.items()}, Plan(99, seed))
        errors += any((each.adjusted_p <= 0.05).any() for each in tested.values())
    low, high = stats.binom.interval(0.999, 120, 0.05)
    assert low <= errors <= high


def test_a_difference_below_the_least_effect_is_no_finding_however_certain():
    rng = np.random.default_rng(3)
    small = sample(rng, 0.2, n=4000, least=0.25)
    plain = Sample(small.values, small.side, 0.0)
    assert maximum_test({(0,): lambda: small}, PLAN)[0,].adjusted_p[0] == 1
    assert maximum_test({(0,): lambda: plain}, PLAN)[0,].adjusted_p[0] == 1 / 200


def test_step_down_finds_more_than_the_largest_alone():
    rng = np.random.default_rng(4)
    own = sample(rng, 3.0)
    own.values[own.side, 1] += 1.2
    p = maximum_test({(0,): lambda: own}, Plan(1999))[0,].adjusted_p
    assert p[0] == 1 / 2000
    assert p[0] <= p[1] < 0.1
    assert (p[2:] >= p[1]).all()


def test_the_bound_covers_the_true_effect_of_all_concepts():
    missed = 0
    for seed in range(60):
        own = sample(np.random.default_rng([9, seed]), 0.7)
        bound = maximum_test({(0,): lambda own=own: own}, Plan(199, seed))[0,].bound
        missed += bound[0] < 0.7
    assert missed <= 5


def test_constant_concepts_and_those_of_one_image_are_never_found():
    rng = np.random.default_rng(6)
    own = sample(rng)
    own.values[:, 0] = 1
    own.values[:, 1] = 0
    own.values[0, 1] = 5
    p = maximum_test({(0,): lambda: own}, PLAN)[0,].adjusted_p
    assert p[0] == 1
    assert p[1] > 0.05


def test_sides_that_are_each_constant_have_a_finite_statistic():
    values = np.repeat([[1.0], [0.0]], 20, axis=0).astype(np.float32)
    own = Sample(values, np.arange(40) < 20, 0.25)
    found = maximum_test({(0,): lambda: own}, PLAN)[0,]
    assert np.isfinite(found.statistic).all()
    assert found.adjusted_p[0] == 1 / 200


def test_pairs_are_tested_by_their_signs():
    rng = np.random.default_rng(7)
    values = rng.normal([0.5, 0.0], 0.3, (40, 2)).astype(np.float32)
    found = maximum_test({(0,): lambda: Sample(values, None, 0.25)}, PLAN)[0,]
    assert found.adjusted_p[0] == 1 / 200
    assert found.adjusted_p[1] > 0.5
    assert found.difference == pytest.approx(values.mean(0), abs=1e-6)


def test_a_seed_gives_the_same_p_again():
    own = sample(np.random.default_rng(8), 0.6)
    first, second = (maximum_test({(0,): lambda: own}, PLAN)[0,].adjusted_p for _ in range(2))
    assert np.array_equal(first, second)


def test_no_comparison_gives_no_result():
    assert maximum_test({}, PLAN) == {}
