"""Probabilities and log-odds."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float64Array, FloatArray

_EDGE = 1e-3  # keeps the logit of 0 and 1 finite


def softmax(logits: FloatArray) -> Float64Array:
    """Compute probabilities over the last axis, stably and in float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def class_probabilities(logits: FloatArray, *, multi_label: bool) -> Float64Array:
    """Compute probabilities of classes (..., C): a softmax, or sigmoids.

    Args:
        logits: (..., C).
        multi_label: The classes do not exclude each other; each has a sigmoid of its own.
    """
    return sigmoid(logits) if multi_label else softmax(logits)


def logit(probability: FloatArray, edge: float = _EDGE) -> Float64Array:
    """Compute log(p / (1 - p)), with both kept from 0 by `edge`."""
    held = np.asarray(probability, np.float64)
    return np.asarray(np.log((held + edge) / (1 - held + edge)))


def sigmoid(value: FloatArray) -> Float64Array:
    """Compute 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(value, np.float64))))
