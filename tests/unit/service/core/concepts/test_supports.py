"""Supports, and what evidence says by them, against numpy's correlations and sums by hand."""

import numpy as np
import pytest
from textcam_service.core.concepts.supports import (
    contrasts,
    correlations,
    effects,
    evidence_by_phrase,
    likeness,
    phrase_supports,
    standardize,
    strongest_support,
)

RNG = np.random.default_rng(7)


def pearson(left, right):
    """(D, V) by numpy.corrcoef, column by column."""
    return np.array([[np.corrcoef(a, b)[0, 1] for b in right.T] for a in left.T])


def test_correlations_are_pearsons():
    left, right = RNG.standard_normal((50, 4)), RNG.random((50, 3)) * 1e-3 + 7
    left[:, 1] += 1e3 * right[:, 2]
    np.testing.assert_allclose(correlations(left, right), pearson(left, right), atol=2e-4)


def test_what_never_varies_correlates_with_nothing():
    left = RNG.standard_normal((20, 2))
    left[:, 0] = 3.3
    found = correlations(left, np.stack([left[:, 1], np.full(20, -1.5)], axis=1))
    assert found == pytest.approx(np.array([[0, 0], [1, 0]]), abs=1e-6)
    assert standardize(left)[:, 0].tolist() == [0.0] * 20


def test_a_head_adds_its_weights_correlation_and_keeps_the_deviation_of_chance():
    scores, phrase_scores = RNG.standard_normal((60, 5)), RNG.random((60, 3))
    weights, table = RNG.standard_normal((12, 5)), RNG.random((12, 3))
    by_images = pearson(scores, phrase_scores)
    np.testing.assert_allclose(phrase_supports(scores, phrase_scores), by_images, atol=1e-5)
    both = (by_images + pearson(weights, table)) / np.sqrt(2)
    found = phrase_supports(scores, phrase_scores, weights, table)
    np.testing.assert_allclose(found, both, atol=1e-5)
    chance = np.random.default_rng(0).standard_normal((100, 400))
    other = np.random.default_rng(1).standard_normal((100, 40))
    alone = phrase_supports(chance, other).std()
    assert phrase_supports(chance, other, chance, other[::-1]).std() == pytest.approx(
        alone, rel=0.1
    )


def test_a_phrase_that_the_heads_table_does_not_know_has_its_support_by_images_alone():
    scores, phrase_scores = RNG.standard_normal((60, 5)), RNG.random((60, 2))
    weights, table = RNG.standard_normal((12, 5)), RNG.random((12, 2))
    table[:, 1] = 0
    found = phrase_supports(scores, phrase_scores, weights, table)
    np.testing.assert_allclose(found[:, 1], pearson(scores, phrase_scores)[:, 1], atol=1e-5)


def test_evidence_counts_by_its_direction_alone():
    supports = np.array([[0.5, 0.0], [0.25, -1.0]], np.float32)
    expected = [0.6 * 0.5 + 0.8 * 0.25, -0.8]
    assert evidence_by_phrase(np.array([3.0, 4.0]), supports) == pytest.approx(expected)
    many = evidence_by_phrase(np.array([[3.0, 4.0], [300.0, 400.0], [0, 0]]), supports)
    assert many == pytest.approx(np.array([expected, expected, [0, 0]]))


def test_likeness_is_the_positive_correlation_and_a_quarter_of_what_channels_add():
    alike = np.array([[1, 0.4, -0.6], [0.4, 1, 0.2], [-0.6, 0.2, 1]])
    # Columns of supports: the first two at a cosine of 0.8, the third opposite to the first.
    supports = np.array([[1.0, 0.8, -2.0], [0.0, 0.6, 0.0]])
    expected = np.array([[1, 0.75 * 0.4 + 0.25 * 0.8, 0], [0.5, 1, 0.2], [0, 0.2, 1]])
    assert likeness(alike, supports) == pytest.approx(expected)


def test_an_effect_counts_every_supporting_channel_and_in_full_from_three_tenths_on():
    evidence = np.array([1.0, -2.0, 4.0, 8.0])
    supports = np.array([[0.3, 0.9], [0.15, 0.3], [-0.5, 0.03], [0.0, 0.0]])
    assert effects(evidence, supports) == pytest.approx([1 - 1, 1 - 2 + 0.4])
    assert effects(evidence, np.zeros((4, 0))).shape == (0,)


def test_a_channel_goes_to_the_phrase_that_it_supports_most_or_to_the_rest():
    supports = np.array([[0.3, 0.2], [0.1, 0.11], [0.25, 0.25], [0.09, -0.5], [-0.2, -0.1]])
    assert strongest_support(supports, 0.1).tolist() == [0, 1, 0, -1, -1]
    assert strongest_support(np.zeros((3, 0)), 0.1).tolist() == [-1, -1, -1]


def test_contrasts_are_supports_less_the_mean_of_the_other_phrases():
    two = np.array([[0.4, 0.2], [0.1, 0.3]])
    assert contrasts(two) == pytest.approx(np.array([[0.2, -0.2], [-0.2, 0.2]]))
    three = contrasts(np.array([[0.4, 0.2, 0.0], [0.1, 0.3, 0.5]]))
    assert three[0] == pytest.approx([0.4 - 0.1, 0.1 - 0.4])
    assert contrasts(two[:, :1]) == pytest.approx(two[:, :1].T)  # nothing to be told apart from
    assert contrasts(np.zeros((4, 0))).shape == (0, 4)


@pytest.mark.parametrize("count", [2, 5])
def test_contrasts_of_all_phrases_are_nothing_in_sum(count):
    found = contrasts(RNG.standard_normal((30, count)))
    assert found.sum(axis=0) == pytest.approx(np.zeros(30), abs=1e-9)
