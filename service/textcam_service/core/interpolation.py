"""Linear resampling of maps between grids."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float32Array, FloatArray


def resampling(cells: int, pixels: int) -> Float32Array:
    """Compute the weights (pixels, cells) of linear resampling of one axis, edges held.

    Stretching is bilinear between cell centres (torch's align_corners=False); shrinking averages
    by a triangle as wide as needed (its antialias=True).
    """
    step = cells / pixels
    centres = (np.arange(pixels) + 0.5) * step - 0.5
    distance = np.abs(np.arange(cells) - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(step, 1.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resample(maps: FloatArray, height: int, width: int) -> Float32Array:
    """Resample maps (..., H, W) to (..., height, width); see resampling()."""
    rows = resampling(maps.shape[-2], height)
    columns = resampling(maps.shape[-1], width)
    return np.asarray(rows @ maps.astype(np.float32) @ columns.T, np.float32)
