"""Saliency maps and evidence from a method's weights; see core.methods.

With a global-average-pooling + linear head, and no ReLU after it, CAM (Zhou et al. 2016, eq. 2),
Grad-CAM, HiResCAM and XGrad-CAM coincide up to a constant, so the head's weight row is all
that is needed. Maps are kept signed, and in logit units where the method has them.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.maps import RemoteMaps
from textcam_service.core.types import Float32Array, Float64Array, FloatArray


def activation_scores(activation_maps: FloatArray | RemoteMaps) -> Float64Array:
    """Average each map over its positions: (..., D, H, W) -> (..., D)."""
    if not isinstance(activation_maps, np.ndarray):
        return activation_maps.scores()
    return np.asarray(activation_maps.mean(axis=(-2, -1), dtype=np.float64))


def head_row(class_weights: FloatArray, head_weights: FloatArray) -> Float64Array:
    """Multiply class weights by the head's: (C,), (C, D) -> (D,), over classes of weight not 0."""
    counted = np.flatnonzero(class_weights)
    return np.asarray(class_weights[counted] @ head_weights[counted].astype(np.float64))


def channel_evidence(
    cam_weights: FloatArray, activation_maps: FloatArray | RemoteMaps
) -> Float64Array:
    """Compute what each channel adds to the logit: the mean of its term w_j A_j, (D,).

    With a linear head, sum_j e_j + bias = logit (TextCAM, arXiv 2510.01004).

    Args:
        cam_weights: (D,) or (D, H, W).
        activation_maps: (D, H, W).
    """
    if cam_weights.ndim == 1:
        return np.asarray(cam_weights, np.float64) * activation_scores(activation_maps)
    maps = np.asarray(activation_maps)
    terms = np.einsum("dhw,dhw->d", cam_weights, maps, dtype=np.float64)
    return np.asarray(terms / maps[0].size)


def saliency_map(cam_weights: FloatArray, activation_maps: FloatArray | RemoteMaps) -> Float32Array:
    """Weigh the maps: V(x) = sum_j w_j A_j(x), (D,) or (D, H, W), (D, H, W) -> (H, W).

    The mean over positions is the sum of the channels' evidence.
    """
    if cam_weights.ndim == 3:
        maps = np.asarray(activation_maps)
        summed = np.einsum("dhw,dhw->hw", cam_weights, maps, dtype=np.float64)
        return np.asarray(summed, np.float32)
    return np.asarray(weighted_maps(cam_weights[None], activation_maps)[0])


def weighted_maps(weights: FloatArray, activation_maps: FloatArray | RemoteMaps) -> Float32Array:
    """Compute several weighted sums of the maps in one product: (K, D), (D, H, W) -> (K, H, W)."""
    if not isinstance(activation_maps, np.ndarray):
        return activation_maps.weighted(weights)
    channels, height, width = activation_maps.shape
    # In the maps' own type: to widen them would take longer than the product.
    rows = weights.astype(activation_maps.dtype)
    summed = rows @ activation_maps.reshape(channels, -1)
    return np.asarray(summed.reshape(-1, height, width), np.float32)
