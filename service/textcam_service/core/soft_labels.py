"""Soft labels out of a CLIP's image-text scores, without labels by hand."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float32Array, FloatArray

_STEPS = 60


def soft_labels(scores: FloatArray) -> Float32Array:
    """Split each phrase's scores into two Gaussians; the upper one's posterior is its label.

    Args:
        scores: (N, V) image-text cosines over the probing images.

    Returns:
        (N, V) in 0..1.
    """
    scores = np.asarray(scores, np.float64)
    low, high = np.quantile(scores, 0.25, axis=0), np.quantile(scores, 0.9, axis=0)
    spread_low = spread_high = scores.std(axis=0) * 0.6 + 1e-6
    share = np.full(scores.shape[1], 0.3)
    posterior = np.zeros_like(scores)
    for _ in range(_STEPS):
        below = np.exp(-(((scores - low) / spread_low) ** 2) / 2) / spread_low * (1 - share)
        above = np.exp(-(((scores - high) / spread_high) ** 2) / 2) / spread_high * share
        posterior = above / (below + above + 1e-300)
        count_high = posterior.sum(axis=0) + 1e-9
        count_low = (1 - posterior).sum(axis=0) + 1e-9
        low = ((1 - posterior) * scores).sum(axis=0) / count_low
        high = (posterior * scores).sum(axis=0) / count_high
        spread_low = np.sqrt(((1 - posterior) * (scores - low) ** 2).sum(axis=0) / count_low) + 1e-4
        spread_high = np.sqrt((posterior * (scores - high) ** 2).sum(axis=0) / count_high) + 1e-4
        share = count_high / len(scores)
    # A wide component does not claim the other end.
    posterior = np.where(scores < low, 0, posterior)
    return np.asarray(np.where(scores > high, np.maximum(posterior, 0.5), posterior), np.float32)
