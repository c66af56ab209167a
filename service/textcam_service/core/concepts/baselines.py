"""Baseline directions of channels, for comparison with LDA.

All take activation scores (N, D) and unit embeddings (N, E) over the probing set, and give
directions (D, E), not normalised.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.probability import softmax
from textcam_service.core.types import Float64Array, FloatArray, IntArray
from textcam_service.core.vectors import unit

_CONTRAST = 0.5  # gamma
_SHARPNESS = 10.0  # a
_FIRST, _LAST = 0.998, 0.97  # probability that the first and last of the top images belong


def top_mean(scores: FloatArray, embeddings: FloatArray, samples: int) -> Float64Array:
    """Average the embeddings of the M most activating images (SemanticLens, Dreyer et al. 2025)."""
    return np.asarray(embeddings[_top(scores, samples)].mean(axis=1), np.float64)


def contrast(scores: FloatArray, embeddings: FloatArray, samples: int) -> Float64Array:
    """Remove from the positive embedding its part along hard negatives (after CSP).

    p = the activation-weighted mean of the top M; n = the mean of those M images of the less
    activating half that are most similar to p; p - gamma <p, n> n, both unit.
    """
    top = _top(scores, samples)
    weights = np.take_along_axis(np.asarray(scores.T, np.float64), top, axis=1)
    weights -= scores.min(axis=0)[:, None]
    positive = unit(np.einsum("dm,dme->de", weights, embeddings[top]))
    idle = np.asarray(scores <= np.median(scores, axis=0)).T
    likeness = np.where(idle, positive @ embeddings.T, -np.inf)
    hard = np.argpartition(-likeness, samples - 1, axis=1)[:, :samples]
    negative = unit(np.asarray(embeddings[hard].mean(axis=1), np.float64))
    similarity = (positive * negative).sum(axis=1, keepdims=True)
    return np.asarray(positive - _CONTRAST * similarity * negative)


def soft_wpmi(
    scores: FloatArray, embeddings: FloatArray, texts: FloatArray, samples: int
) -> Float64Array:
    """Weight the text embeddings by SoftWPMI (CLIP-Dissect, Oikarinen and Weng 2023, eq. 4).

    The score is log p(t | B_k) - lambda log p(t), with lambda = 1. p(t | B_k) is over the top M
    images; their membership falls from .998 to .97. A softmax over texts turns scores into weights.

    Args:
        scores: (N, D).
        embeddings: (N, E).
        texts: (V, E) unit embeddings of the vocabulary.
        samples: M.
    """
    logits = _SHARPNESS * np.asarray(embeddings @ texts.T, np.float64)
    given = softmax(logits)
    belongs = np.linspace(_FIRST, _LAST, samples)[:, None]
    order = np.argsort(-scores, axis=0, kind="stable")[:samples].T
    joint = np.array([np.log(1 + belongs * (given[top] - 1)).sum(axis=0) for top in order])
    peak = joint.max(axis=0)
    prior = peak + np.log(np.exp(joint - peak).mean(axis=0))
    return np.asarray(softmax(joint - prior) @ texts, np.float64)


def _top(scores: FloatArray, samples: int) -> IntArray:
    """Return indices (D, M) of the most activating images."""
    return np.asarray(np.argsort(-scores, axis=0, kind="stable")[:samples].T)
