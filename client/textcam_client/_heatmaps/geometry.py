"""Upsampling of maps at model resolution to image resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from textcam_client._arrays import Float32Array


@dataclass(frozen=True)
class Crop:
    """The part of the image that the model saw, in pixels of the image as sent.

    Maps stretch over exactly this rectangle, their cells shifted from an even grid by
    `shift_x` to the right and `shift_y` down.
    """

    left: float
    top: float
    width: float
    height: float
    shift_x: float = 0.0
    shift_y: float = 0.0


def upsample(
    values: NDArray[Any],
    crop: Crop,
    image_size: tuple[int, int],
    size: tuple[int, int],
    *,
    smooth: bool = False,
) -> Float32Array:
    """Stretch a map over its crop, with half-pixel centres and clamped edges.

    Args:
        values: (H, W) cells.
        crop: Rectangle of the cells, in pixels of an image of `image_size`.
        image_size: (h, w) of the image as sent.
        size: (h, w) of the result; image and crop are scaled if it differs from `image_size`.
        smooth: Use cubic B-splines, for pictures. Bilinear interpolation shows ridges if few
            cells are drawn large. Splines stay in the cells' range, but flatten it.

    Returns:
        float32 of `size`; 0 at pixels with their centre outside the crop.
    """
    within_y, within_x = _spans(crop, image_size, size)
    rows = _weights(values.shape[0], *within_y, smooth)
    columns = _weights(values.shape[1], *within_x, smooth)
    return np.asarray(rows @ np.asarray(values, np.float32) @ columns.T, np.float32)


def inside(crop: Crop, image_size: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask of the pixels with their centre in the crop; arguments as in `upsample`."""
    rows, columns = (
        (centres >= start) & (centres < start + extent)
        for centres, start, extent, _ in _spans(crop, image_size, size)
    )
    return np.asarray(rows[:, None] & columns)


def smooth_peak(values: NDArray[Any], crop: Crop) -> float:
    """Return about the largest value of smooth upsampling, at any size."""
    height, width = values.shape
    shift = crop.shift_x / crop.width * width, crop.shift_y / crop.height * height
    cells = Crop(0, 0, width, height, *shift)
    size = height * _fineness(height), width * _fineness(width)
    return float(upsample(values, cells, (height, width), size, smooth=True).max())


def _fineness(cells: int) -> int:
    """Return the number of points per cell: 64 along a side, and at least 2 per cell."""
    return max(2, -(-64 // cells))


_Span: TypeAlias = tuple[NDArray[Any], float, float, float]
"""Along one axis: the pixels' centres, the crop's start and extent, and the cells' shift."""


def _spans(crop: Crop, image_size: tuple[int, int], size: tuple[int, int]) -> tuple[_Span, _Span]:
    """Return the spans of the rows and of the columns."""
    given = (
        (size[0], size[0] / image_size[0], crop.top, crop.height, crop.shift_y),
        (size[1], size[1] / image_size[1], crop.left, crop.width, crop.shift_x),
    )
    down, across = (
        (np.arange(pixels) + 0.5, start * scale, extent * scale, shift * scale)
        for pixels, scale, start, extent, shift in given
    )
    return down, across


def _weights(
    cells: int,
    centres: NDArray[Any],
    start: float,
    extent: float,
    shift: float,
    smooth: bool,
) -> Float32Array:
    """Return (pixels, cells): the share of each cell in each pixel along one axis."""
    seen = np.flatnonzero((centres >= start) & (centres < start + extent))
    # Splines reach the clamped edge one cell further out, without a crease.
    beyond = 1 if smooth else 0
    place = (centres[seen] - start - shift) / extent * cells - 0.5
    place = np.clip(place, -beyond, cells - 1 + beyond)
    low = np.floor(place).astype(np.intp)
    weights = np.zeros((len(centres), cells), np.float32)
    for offset, share in (_cubic if smooth else _linear)(place - low).items():
        # Added, because several neighbours are the same cell at an edge.
        np.add.at(weights, (seen, np.clip(low + offset, 0, cells - 1)), share)
    return weights


def _linear(past: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """Return each neighbour's share at points `past` (0..1) the centre of cell 0, bilinear."""
    return {0: 1 - past, 1: past}


def _cubic(past: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """Return the same shares for the uniform cubic B-spline."""
    return {
        -1: (1 - past) ** 3 / 6,
        0: (4 - 6 * past**2 + 3 * past**3) / 6,
        1: (1 + 3 * past + 3 * past**2 - 3 * past**3) / 6,
        2: past**3 / 6,
    }
