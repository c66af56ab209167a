"""BatchResult shrinkage LDA against scikit-learn, channel by channel."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from textcam_service.core.concepts.channel_embeddings import (
    ChannelSettings,
    channel_directions,
    extreme_samples,
)


def probing_set(samples=400, channels=12, dimensions=64, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((samples, dimensions)).astype(np.float32)
    embeddings[:, :5] *= 4
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    mixing = rng.standard_normal((dimensions, channels))
    noise = 0.3 * rng.standard_normal((samples, channels))
    return np.maximum(embeddings @ mixing + noise, 0).astype(np.float32), embeddings


@pytest.mark.parametrize("shrinkage", [None, 0.8, 0.1])
@pytest.mark.parametrize(("samples", "dimensions"), [(20, 64), (60, 64), (150, 64)])
def test_directions_are_scikit_learns(shrinkage, samples, dimensions):
    scores, embeddings = probing_set(dimensions=dimensions)
    settings = ChannelSettings("lda", samples, shrinkage, remove_common=False)
    mine = channel_directions(scores, embeddings, settings).embeddings
    low, high = extreme_samples(scores, samples)
    for channel in range(scores.shape[1]):
        data = np.concatenate([embeddings[low[channel]], embeddings[high[channel]]])
        oracle = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto" if shrinkage is None else shrinkage
        ).fit(data.astype(np.float64), [0] * samples + [1] * samples)
        direction = oracle.coef_[0] / np.linalg.norm(oracle.coef_[0])
        assert mine[channel] @ direction >= 0.9999


@pytest.mark.parametrize("shrinkage", [None, 1e-6])
@pytest.mark.parametrize("repeats", [1, 3])
def test_two_samples_a_side_are_told_apart_where_hardly_anything_is_shrunk(repeats, shrinkage):
    """By Ledoit and Wolf it would be nothing. However often each is repeated, as regions may be.

    And so with the least that can be asked for.
    """
    scores, embeddings = probing_set()
    low, high = (np.repeat(side, repeats, axis=1) for side in extreme_samples(scores, 2))
    settings = ChannelSettings("lda", 2 * repeats, shrinkage, remove_common=False)
    found = channel_directions(scores, embeddings, settings, samples=(low, high))
    for channel, direction in enumerate(found.embeddings):
        below, above = embeddings[low[channel]] @ direction, embeddings[high[channel]] @ direction
        gap = above.mean() - below.mean()
        assert gap > 0.1
        assert max(np.ptp(below), np.ptp(above)) < 1e-3 * gap


def test_extremes_are_a_stable_sorts_ends():
    scores = np.array([[0.0, 2], [0, 1], [3, -1], [-0.0, 1], [1, 1], [0, 5]], np.float32)
    low, high = extreme_samples(scores, 2)
    for channel in range(2):
        order = np.argsort(scores[:, channel], kind="stable")
        assert low[channel].tolist() == sorted(order[:2].tolist())
        assert high[channel].tolist() == sorted(order[-2:].tolist())


def test_a_channel_that_never_varies_is_dead_and_has_no_direction():
    scores, embeddings = probing_set()
    scores[:, 3] = 0.5
    result = channel_directions(scores, embeddings, ChannelSettings(samples=30))
    assert result.dead.tolist() == [channel == 3 for channel in range(12)]
    assert not result.embeddings[3].any()


def test_a_dimension_of_rounding_noise_does_not_take_over():
    scores, embeddings = probing_set()
    noisy = np.concatenate(
        [embeddings, 1e-9 * np.random.default_rng(1).standard_normal((400, 1))], axis=1
    )
    settings = ChannelSettings(samples=30, remove_common=False)
    clean = channel_directions(scores, embeddings, settings).embeddings
    with_noise = channel_directions(scores, noisy, settings).embeddings
    assert not with_noise[:, -1].any()
    np.testing.assert_allclose(with_noise[:, :-1], clean, atol=1e-5)


def test_the_common_direction_is_removed_from_every_channel():
    scores, embeddings = probing_set()
    kept = channel_directions(scores, embeddings, ChannelSettings(samples=30, remove_common=False))
    removed = channel_directions(scores, embeddings, ChannelSettings(samples=30))
    mean = kept.embeddings.mean(axis=0)
    expected = kept.embeddings - mean
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(removed.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(removed.common_direction, mean, atol=1e-6)


def test_one_live_channel_keeps_its_direction_as_it_has_nothing_in_common():
    scores, embeddings = probing_set()
    scores = scores * (np.arange(scores.shape[1]) == 1)
    kept = channel_directions(scores, embeddings, ChannelSettings(samples=30, remove_common=False))
    found = channel_directions(scores, embeddings, ChannelSettings(samples=30))
    assert found.dead.sum() == scores.shape[1] - 1
    assert np.linalg.norm(found.embeddings[1]) == pytest.approx(1)
    np.testing.assert_array_equal(found.embeddings, kept.embeddings)
    assert not found.common_direction.any()


@pytest.mark.parametrize("direction", ["mean_difference", "correlation"])
def test_other_directions_by_definition(direction):
    scores, embeddings = probing_set()
    settings = ChannelSettings(direction, 30, None, remove_common=False)
    mine = channel_directions(scores, embeddings, settings).embeddings
    low, high = extreme_samples(scores, 30)
    for channel in range(12):
        if direction == "mean_difference":
            expected = embeddings[high[channel]].mean(0) - embeddings[low[channel]].mean(0)
        else:
            expected = np.cov(scores[:, channel], embeddings.T)[0, 1:]
        assert mine[channel] @ expected / np.linalg.norm(expected) >= 0.9999
