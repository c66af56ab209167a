"""Antialiased resampling of RGB images, by Pillow or by an equivalent with SIMD if installed.

fast_image_resize (the crate behind cykooz.resizer) has Pillow's filters and fixed-point arithmetic.
By default it resamples the columns before the rows, and one value in six differs. Here it resamples
one direction at a time, in Pillow's order. Then only a few values in a thousand differ, by a level
or two, and it takes a third of the time (tests/bench/bench_resampling.py). Some processors have no
wheels of it; there Pillow resamples.
"""

from __future__ import annotations

import math
import platform
from typing import TypeAlias

import numpy as np
from PIL import Image

from textcam_service.core.types import Interpolation, UInt8Array

try:
    import cykooz_resizer as simd
except ImportError:
    if platform.machine() == "x86_64":  # where it is a dependency
        raise
    simd = None

RESAMPLER = "pillow" if simd is None else "cykooz.resizer"
Box: TypeAlias = "tuple[float, float, float, float]"

_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Names in fast_image_resize, and how far they reach, in pixels of the coarser image.
_SIMD = {"bilinear": ("bilinear", 1), "bicubic": ("catmull_rom", 2), "lanczos": ("lanczos3", 3)}
_LONGEST = 2**16  # pixels of a side; what lies between the passes is as long as the image


def resample(
    image: Image.Image, size: tuple[int, int], interpolation: Interpolation, box: Box
) -> UInt8Array:
    """Resample a part of an RGB image.

    Args:
        image: RGB.
        size: Width and height of the result, in pixels.
        interpolation: The filter.
        box: Left, top, right and bottom of the part, in the image's pixels.

    Returns:
        (height, width, 3).
    """
    if simd is None or max(box[2] - box[0], box[3] - box[1]) > _LONGEST:
        return np.asarray(image.resize(size, _PILLOW[interpolation], box=box))
    (width, height), (left, top, right, bottom) = size, box
    first_column, last_column = _reach(left, right, width, interpolation, image.width)
    first_row, last_row = _reach(top, bottom, height, interpolation, image.height)
    columns, rows = last_column - first_column, last_row - first_row
    if image.height - height > max(2 * (image.width - width), 0):  # Pillow 13: the columns first
        down = (top, bottom - top)
        strip = _pass(image, (columns, height), interpolation, (first_column, columns), down)
        across = (left - first_column, right - left)
        return np.asarray(_pass(strip, size, interpolation, across, (0, height)))
    across = (left, right - left)
    strip = _pass(image, (width, rows), interpolation, across, (first_row, rows))
    down = (top - first_row, bottom - top)
    return np.asarray(_pass(strip, size, interpolation, (0, width), down))


def _reach(
    start: float, end: float, pixels: int, interpolation: Interpolation, side: int
) -> tuple[int, int]:
    """Return the first pixel along a side that counts, and the one after the last."""
    reach = _SIMD[interpolation][1] * max((end - start) / pixels, 1.0) + 1
    return max(math.floor(start - reach), 0), min(math.ceil(end + reach), side)


def _span(start: float, length: float, side: int) -> tuple[float, float]:
    """Return start and length, not past the side by a rounding error."""
    while start + length > side:
        length = math.nextafter(length, 0.0)
    return start, length


def _pass(
    image: Image.Image,
    size: tuple[int, int],
    interpolation: Interpolation,
    across: tuple[float, float],
    down: tuple[float, float],
) -> Image.Image:
    """Resample spans of start and length, one of them of whole pixels, to (width, height).

    Pillow's own memory is read and written in place.
    """
    (left, columns), (top, rows) = _span(*across, image.width), _span(*down, image.height)
    filtering = simd.ResizeAlg.convolution(simd.FilterType[_SIMD[interpolation][0]])
    options = simd.ResizeOptions(filtering, crop_box=simd.CropBox(left, top, columns, rows))
    result = Image.new("RGB", size)
    simd.Resizer().resize_pil(image, result, options)
    return result
