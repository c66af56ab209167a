"""Label accuracy, on units whose right name is known by construction."""

import numpy as np
import pytest
from textcam_service.core.concepts.baselines import soft_wpmi
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.offline.evaluation.neuron_labels import (
    name_fits,
    neuron_label_metrics,
    neuron_label_ranks,
    own_ranks,
)

CLASSES, EACH, DIMENSIONS = 8, 30, 24
NAMES = [f"class {index}" for index in range(CLASSES)]
DIRECTIONS = ["lda", "mean_difference", "correlation", "top_mean", "contrast", "soft_wpmi"]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def probing_set(seed=0):
    """Images that look like their class's name, and logits that know the class."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.standard_normal((CLASSES, DIMENSIONS)))
    truth = np.repeat(np.arange(CLASSES), EACH)
    noise = rng.standard_normal((len(truth), DIMENSIONS))
    embeddings = unit(texts[truth] + 0.12 * noise)
    logits = 5.0 * np.eye(CLASSES)[truth] + rng.standard_normal((len(truth), CLASSES))
    return logits.astype(np.float32), embeddings.astype(np.float32), texts.astype(np.float32)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_unit_that_knows_its_class_is_called_by_its_name_and_by_no_other(direction):
    logits, embeddings, texts = probing_set()
    settings = ChannelSettings(direction, EACH)
    places = neuron_label_ranks(logits, embeddings, texts, NAMES, NAMES, settings)
    assert neuron_label_metrics(places).top_1 == 1
    # The next class's logit in each place: its name is first, so the own one is not.
    moved = neuron_label_ranks(
        np.roll(logits, 1, axis=1), embeddings, texts, NAMES, NAMES, settings
    )
    assert neuron_label_metrics(moved).top_1 == 0


def test_places_are_counted_as_by_hand():
    fits = np.array(
        [
            [0.9, 0.5, 0.1, 0.2],  # first
            [0.3, 0.3, 0.1, 0.2],  # as good as another name: behind it
            [0.9, 0.4, 0.1, 0.2],  # behind two: its capitals are no other name
            [0.4, 0.1, 0.9, 0.9],  # as good as itself in capitals: first
        ]
    )
    names = ["hen", "cock", "Cardigan", "cardigan"]
    assert own_ranks(fits, names, names).tolist() == [0, 1, 2, 0]
    # Two units among four phrases, two of which name no unit.
    assert own_ranks(fits[:2], ["hen", "bird", "lynx", "cock"], names[:2]).tolist() == [0, 2]


def test_figures_are_shares_of_the_first_and_the_first_five():
    figures = neuron_label_metrics(np.array([0, 4, 5, 0, 1]))
    assert (figures.top_1, figures.top_5, figures.units) == (0.4, 0.8, 5)


def test_soft_wpmi_ranks_by_its_own_scores_as_clip_dissect_does():
    """Its code's order of steps, in logarithms; our rival gives the softmax of the same.

    The nearest text to the weighted mean of the texts would be another ranking behind the first.
    """
    logits, embeddings, texts = probing_set(1)
    texts = texts[:5]
    likeness = 10 * embeddings.astype(float) @ texts.T
    given = np.exp(likeness) / np.exp(likeness).sum(axis=1, keepdims=True)
    top, belongs = np.argsort(-logits, axis=0)[:20], np.linspace(0.998, 0.97, 20)
    joint = np.array(
        [np.log(1 + belongs[:, None] * (given[rows] - 1)).sum(axis=0) for rows in top.T]
    )
    information = joint - np.log(np.exp(joint).sum(axis=0)) + np.log(CLASSES)

    fits = name_fits(logits, embeddings, texts, ChannelSettings("soft_wpmi", 20))
    expected = np.exp(information) / np.exp(information).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fits, expected, atol=1e-6)
    direction = soft_wpmi(logits, embeddings, texts, 20)
    np.testing.assert_allclose(fits @ texts, direction, atol=1e-6)
    near = unit(direction) @ (texts - texts.mean(axis=0)).T
    assert (np.argsort(-fits, axis=1) != np.argsort(-near, axis=1)).any()
