"""The rivals' directions equal their formulas, computed by hand."""

import numpy as np
import pytest
from textcam_service.core.concepts.baselines import contrast, soft_wpmi, top_mean
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions

RNG = np.random.default_rng(0)
SCORES = RNG.random((40, 3)).astype(np.float32)
EMBEDDINGS = RNG.standard_normal((40, 8))
EMBEDDINGS /= np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
TEXTS = RNG.standard_normal((6, 8))
TEXTS /= np.linalg.norm(TEXTS, axis=1, keepdims=True)
M = 5


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("channel", range(3))
def test_top_mean_is_the_mean_of_the_most_exciting(channel):
    best = sorted(range(40), key=lambda i: -SCORES[i, channel])[:M]
    np.testing.assert_allclose(
        top_mean(SCORES, EMBEDDINGS, M)[channel], sum(EMBEDDINGS[i] for i in best) / M
    )


@pytest.mark.parametrize("channel", range(3))
def test_contrast_takes_away_what_hard_negatives_share(channel):
    own = SCORES[:, channel].astype(float)
    best = sorted(range(40), key=lambda i: -own[i])[:M]
    positive = unit(sum((own[i] - own.min()) * EMBEDDINGS[i] for i in best))
    idle = [i for i in range(40) if own[i] <= np.median(own)]
    hard = sorted(idle, key=lambda i: -(EMBEDDINGS[i] @ positive))[:M]
    negative = unit(sum(EMBEDDINGS[i] for i in hard))
    expected = positive - 0.5 * (positive @ negative) * negative
    np.testing.assert_allclose(contrast(SCORES, EMBEDDINGS, M)[channel], expected, atol=1e-6)


def test_soft_wpmi_is_the_weighted_text_by_the_papers_formula():
    def softmax(values):
        raised = np.exp(values - values.max())
        return raised / raised.sum()

    given = np.array([softmax(10 * row) for row in EMBEDDINGS @ TEXTS.T])
    joint = np.zeros((3, 6))
    for channel in range(3):
        best = sorted(range(40), key=lambda i: -SCORES[i, channel])[:M]
        for place, image in enumerate(best):
            belongs = 0.998 + (0.97 - 0.998) * place / (M - 1)
            joint[channel] += np.log(1 + belongs * (given[image] - 1))
    prior = np.log(np.exp(joint).mean(axis=0))
    expected = [softmax(row - prior) @ TEXTS for row in joint]
    np.testing.assert_allclose(soft_wpmi(SCORES, EMBEDDINGS, TEXTS, M), expected, atol=1e-9)


@pytest.mark.parametrize("direction", ["correlation", "top_mean", "contrast", "soft_wpmi"])
def test_every_rival_stands_behind_the_builders_interface(direction):
    settings = ChannelSettings(direction, M, remove_common=False)
    found = channel_directions(SCORES, EMBEDDINGS, settings, texts=TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    if direction == "soft_wpmi":
        with pytest.raises(ValueError, match="vocabulary"):
            channel_directions(SCORES, EMBEDDINGS, settings)
