"""From maps at model resolution to heatmaps at image resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32Array: TypeAlias = NDArray[np.float32]
UInt8Array: TypeAlias = NDArray[np.uint8]


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
    values: NDArray[Any], crop: Crop, image_size: tuple[int, int], size: tuple[int, int]
) -> Float32Array:
    """Stretch a map over its crop: bilinear, half-pixel centres, edges clamped.

    Args:
        values: (H, W) cells.
        crop: Where the cells lie, in pixels of an image of `image_size`.
        image_size: (h, w) of the image as sent.
        size: (h, w) of the result; another than `image_size` scales image and crop.

    Returns:
        float32 of `size`; 0 at pixels whose centre is outside the crop.
    """
    scale_y, scale_x = size[0] / image_size[0], size[1] / image_size[1]
    vertical = crop.top * scale_y, crop.height * scale_y, crop.shift_y * scale_y
    across = crop.left * scale_x, crop.width * scale_x, crop.shift_x * scale_x
    rows = _weights(values.shape[0], size[0], *vertical)
    columns = _weights(values.shape[1], size[1], *across)
    return np.asarray(rows @ np.asarray(values, np.float32) @ columns.T, np.float32)


def _weights(cells: int, pixels: int, start: float, extent: float, shift: float) -> Float32Array:
    """(pixels, cells): the share of each cell in each pixel along one axis."""
    centres = np.arange(pixels) + 0.5
    inside = np.flatnonzero((centres >= start) & (centres < start + extent))
    place = np.clip((centres[inside] - start - shift) / extent * cells - 0.5, 0, cells - 1)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, cells - 1)
    weights = np.zeros((pixels, cells), np.float32)
    weights[inside, low] = 1 - (place - low)
    # Added, since low and high are the same cell at the far edge.
    weights[inside, high] += place - low
    return weights
