"""Supports: how far each channel speaks for each phrase, and evidence projected on them.

A support is a correlation over the probing images, of a channel's activation score with the
phrase's score by an embedder or a class table. If the table has the head's classes, the correlation
of the channel's weights with the table over the classes is added. So a channel stands for what
activates it and for what its weights favour.

Letters in shapes: N probing images, D channels, V phrases, C classes.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float32Array, Float64Array, FloatArray, IntArray
from textcam_service.core.vectors import unit

_TINY = 1e-9
_BY_SUPPORTS = 0.25
_FULL_SUPPORT = 0.3


def standardize(values: FloatArray, axis: int = 0) -> Float32Array:
    """Subtract the mean along an axis and divide by the deviation; what never varies becomes 0."""
    centred = np.asarray(values, np.float32)
    centred = centred - centred.mean(axis=axis, keepdims=True, dtype=np.float64).astype(np.float32)
    spread = centred.std(axis=axis, keepdims=True, dtype=np.float64)
    varies = spread > _TINY
    return np.asarray(np.where(varies, centred / np.where(varies, spread, 1), 0), np.float32)


def correlations(left: FloatArray, right: FloatArray) -> Float32Array:
    """Correlate columns over rows: (N, D), (N, V) -> (D, V) of Pearson's r, 0 where none varies."""
    return np.asarray(standardize(left).T @ standardize(right) / len(left), np.float32)


def phrase_supports(
    scores: FloatArray,
    phrase_scores: FloatArray,
    head_weights: FloatArray | None = None,
    attributes: FloatArray | None = None,
) -> Float32Array:
    """Compute the support of each channel for each phrase.

    Args:
        scores: (N, D) activation scores of the probing images.
        phrase_scores: (N, V) score of each phrase in each image, by the embedder or the table.
        head_weights: (C, D) weights of a linear head with the table's classes; None: left out.
        attributes: (C, V) the table's probabilities; needed with `head_weights`.

    Returns:
        (D, V) correlations; with a head, for phrases that its table knows, the sum of both over
        the root of 2, so that chance gives the same deviation as one of them.
    """
    found = correlations(scores, phrase_scores)
    if head_weights is None:
        return found
    assert attributes is not None  # noqa: S101 - the caller has both or none
    both = (found + correlations(head_weights, attributes)) / np.sqrt(2)
    return np.asarray(np.where(np.any(attributes, axis=0), both, found), np.float32)


def evidence_by_phrase(evidence: FloatArray, supports: Float32Array) -> Float32Array:
    """Project unit evidence on the supports: (..., D), (D, V) -> (..., V)."""
    return np.asarray(unit(evidence).astype(np.float32) @ supports, np.float32)


def likeness(alike: FloatArray, supports: FloatArray) -> Float32Array:
    """Compute how far one phrase's score explains another's: (V, V), 0..1.

    Args:
        alike: (V, V) correlation of phrases over images or classes.
        supports: (D, V).

    Returns:
        Three quarters of the positive correlation, plus a quarter of the larger of that correlation
        and the cosine of the phrases' supports. Channels respond to mixtures that images seldom
        show.
    """
    positive = np.maximum(alike, 0)
    columns = unit(np.asarray(supports).T).astype(np.float32)
    return np.asarray(
        (1 - _BY_SUPPORTS) * positive + _BY_SUPPORTS * np.maximum(positive, columns @ columns.T),
        np.float32,
    )


def effects(evidence: FloatArray, supports: FloatArray) -> Float64Array:
    """Sum the evidence of all channels that support each phrase, whichever group they are in.

    Each channel is weighted by its support, and counts fully from a correlation of 0.3 on.

    Args:
        evidence: (D,) e_j.
        supports: (D, K) of K phrases.

    Returns:
        (K,) in the evidence's units. They overlap, so their sum has no meaning.
    """
    share = np.clip(np.asarray(supports, np.float64) / _FULL_SUPPORT, 0, 1)
    return np.asarray(np.asarray(evidence, np.float64) @ share)


def strongest_support(supports: FloatArray, min_support: float) -> IntArray:
    """Assign each channel to the phrase that it supports most.

    Args:
        supports: (D, K) of the chosen phrases.
        min_support: Least support; channels below it go to the rest.

    Returns:
        (D,) places in the phrases, or -1. Ties go to the earlier phrase.
    """
    if not supports.shape[1]:
        return np.full(len(supports), -1, np.int64)
    best = supports.argmax(axis=1)
    return np.where(supports[np.arange(len(supports)), best] >= min_support, best, -1)


def contrasts(supports: FloatArray) -> Float64Array:
    """Compute how far channels support a phrase beyond the other chosen ones: (D, K) -> (K, D).

    A phrase's relative map is R_v = sum_j g_jv |w_j| A_j, less its mean over cells. The contrast
    g_jv is r_jv less its mean over the other chosen phrases; a single phrase has no contrast. The
    weights' signs are left out: the map shows where the network sees the phrase more than the
    others, for the class or against it.
    """
    own: Float64Array = np.asarray(supports, np.float64).T
    count = len(own)
    if count < 2:
        return own
    return np.asarray(own - (own.sum(axis=0) - own) / (count - 1))
