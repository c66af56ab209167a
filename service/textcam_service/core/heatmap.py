"""Heatmaps: saliency maps at model resolution, drawn over the image's pixels."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import (
    Crop,
    Float32Array,
    Float64Array,
    FloatArray,
    IntArray,
    UInt8Array,
)

# Pixels along each side that are computed at a time, so that a large heatmap needs little memory
# beyond its own.
_TILE = 1024


def heatmap(
    saliency_map: FloatArray, crop: Crop, height: int, width: int, peak: float | None = None
) -> Float32Array:
    """Stretch the positive part of a map over the crop that the network saw.

    Bilinear between cell centres, edges held; 0 outside the crop.

    Args:
        saliency_map: (H, W), in any unit.
        crop: The rectangle the map covers, in pixels of the image.
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        peak: The value that becomes 1; None: the map's own maximum.

    Returns:
        (height, width), 0..1; all 0 where nothing is positive.
    """
    positive = np.maximum(np.asarray(saliency_map, np.float64), 0)
    peak = float(positive.max()) if peak is None else peak
    if peak <= 0:
        return np.zeros((height, width), np.float32)
    support = np.minimum(positive / peak, 1.0)
    heat = np.empty((height, width), np.float32)
    for top in range(0, height, _TILE):
        y = np.arange(top, min(top + _TILE, height))
        rows = _interpolation(support.shape[0], y, crop.top, crop.height, crop.shift_y) @ support
        for left in range(0, width, _TILE):
            x = np.arange(left, min(left + _TILE, width))
            columns = _interpolation(support.shape[1], x, crop.left, crop.width, crop.shift_x)
            # Rows and columns are independent: two small matrix products do the resampling.
            heat[top : top + _TILE, left : left + _TILE] = rows @ columns.T
    return heat


def to_uint8(heat: FloatArray) -> UInt8Array:
    """Convert 0..1 to 0..255, rounded."""
    return np.asarray(np.rint(np.asarray(heat) * 255), np.uint8)


def _interpolation(
    cells: int, pixels: IntArray, start: float, length: float, shift: float
) -> Float64Array:
    """Compute the weights (pixels, cells) of linear interpolation; 0 outside the crop."""
    centres = pixels + 0.5
    inside = (centres >= start) & (centres < start + length)
    position = np.clip((centres - start - shift) / length * cells - 0.5, 0, cells - 1)
    low = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    high = np.minimum(low + 1, cells - 1)
    fraction = position - low
    weights = np.zeros((len(pixels), cells))
    index = np.arange(len(pixels))
    np.add.at(weights, (index, low), 1 - fraction)
    np.add.at(weights, (index, high), fraction)
    weights[~inside] = 0
    return weights
