"""Soft labels from a CLIP's image-text scores, without labels by hand."""

from __future__ import annotations

import numpy as np

from textcam_service.core.probability import sigmoid, softmax
from textcam_service.core.types import Float32Array, Float64Array, FloatArray

_SHARPNESS = 2.0  # of a label's slope, in the CLIP's own logit scale
_EDGE = 1e-3
_HALVINGS = 50
_MARGIN = 20.0  # beyond the largest logit, every label of a phrase is 0


def prior_of_scores(scores: FloatArray, scale: float) -> Float64Array:
    """Estimate how often each phrase is true: (N, V) cosines -> (V,).

    The participation ratio of the CLIP's softmax over the vocabulary, mean(p)^2 / mean(p^2) over
    images. If p were constant where a phrase is true and 0 elsewhere, this would be exactly the
    share of images in which it is true. Nothing is fitted.

    Args:
        scores: (N, V) image-text cosines over the probing images.
        scale: Factor by which the CLIP multiplies cosines, exp(logit_scale).
    """
    shares = softmax(scale * np.asarray(scores, np.float64))
    ratio = shares.mean(axis=0) ** 2 / (shares**2).mean(axis=0)
    return np.asarray(np.clip(ratio, _EDGE, 1 - _EDGE))


def soft_labels(scores: FloatArray, scale: float) -> Float32Array:
    """Label each phrase in each image: sigmoid(2 scale x - t_v), with the phrase's prior as mean.

    See prior_of_scores for the arguments.

    Returns:
        (N, V) in 0..1.
    """
    prior = prior_of_scores(scores, scale)
    raised = _SHARPNESS * scale * np.asarray(scores, np.float64)
    low, high = raised.min(axis=0) - _MARGIN, raised.max(axis=0) + _MARGIN
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = sigmoid(raised - middle).mean(axis=0) > prior
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(sigmoid(raised - (low + high) / 2), np.float32)
