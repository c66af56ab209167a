"""Final-layer label accuracy: how often units of known meaning are labelled with their name.

CLIP-Dissect (Oikarinen and Weng 2023): each unit of a classifier's last layer stands for its
class, so its best concept should be its class's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.concepts import baselines
from textcam_service.core.concepts.channel_embeddings import ChannelSettings, channel_directions
from textcam_service.core.rationale.phrases import center_texts
from textcam_service.core.types import FloatArray, IntArray


@dataclass(frozen=True)
class NeuronLabelMetrics:
    """Shares of the units with their own name among the first.

    Attributes:
        top_1: Share with the own name first.
        top_5: Share with the own name among the first five.
        units: Number of judged units.
    """

    top_1: float
    top_5: float
    units: int


def neuron_label_ranks(
    scores: FloatArray,
    embeddings: FloatArray,
    texts: FloatArray,
    phrases: Sequence[str],
    names: Sequence[str],
    settings: ChannelSettings,
) -> IntArray:
    """Rank each class's own name among the phrases for its unit: (C,), 0 first.

    Phrases that differ only in letter case are one; any other that fits as well comes first.

    Args:
        scores: (N, C) logits over the probing set.
        embeddings: (N, E) unit embeddings of the same images.
        texts: (V, E) unit embeddings of the phrases.
        phrases: The V phrases, including all names.
        names: C class names.
        settings: Settings of the units' directions; 2 M <= N.
    """
    return own_ranks(name_fits(scores, embeddings, texts, settings), phrases, names)


def own_ranks(fits: FloatArray, phrases: Sequence[str], names: Sequence[str]) -> IntArray:
    """Rank the own names by how well each phrase names each unit, (C, V): (C,), 0 first."""
    folded = np.array([phrase.casefold() for phrase in phrases])
    own = np.array([name.casefold() for name in names])[:, None] == folded
    best = np.where(own, fits, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(((fits >= best) & ~own).sum(axis=1), np.int64)


def name_fits(
    scores: FloatArray, embeddings: FloatArray, texts: FloatArray, settings: ChannelSettings
) -> FloatArray:
    """Score how well each text names each unit: (U, V), comparable within a row only.

    The direction's cosine with the centred text, as phrases are chosen; SoftWPMI, which scores
    texts without a direction, by its own scores.

    Args:
        scores: (N, U) of the units over the probing set.
        embeddings: (N, E) unit embeddings of the same images.
        texts: (V, E) unit embeddings.
        settings: Settings of the units' directions; 2 M <= N.
    """
    if settings.direction == "soft_wpmi":
        # It gives the mean of the texts, weighted by its scores: of axes, that is the scores.
        likeness = embeddings @ texts.T
        return baselines.soft_wpmi(scores, likeness, np.eye(len(texts)), settings.samples)
    directions = channel_directions(scores, embeddings, settings)
    return np.asarray(directions.embeddings @ center_texts(texts).T)


def neuron_label_metrics(ranks: IntArray) -> NeuronLabelMetrics:
    """Count the ranks (U,) that are first, and among the first five."""
    return NeuronLabelMetrics(float(np.mean(ranks < 1)), float(np.mean(ranks < 5)), len(ranks))
