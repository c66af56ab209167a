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
_STRIP = 2**18  # pixels; more are not copied at a time
_LONGEST = 2**16  # pixels; Pillow copies nothing of what is longer


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
    across = _span(left - first_column, right - left, columns)
    down = _span(top - first_row, bottom - top, rows)
    strips = []
    if image.height - height > max(2 * (image.width - width), 0):  # Pillow 13: the columns first
        step = max(_STRIP // rows, 1)
        for start in range(first_column, last_column, step):
            end = min(start + step, last_column)
            strip = image.crop((start, first_row, end, last_row))
            strips.append(_pass(strip, (end - start, height), interpolation, None, down))
        return _pass(np.concatenate(strips, 1), size, interpolation, across, None)
    step = max(_STRIP // columns, 1)
    for start in range(first_row, last_row, step):
        end = min(start + step, last_row)
        strip = image.crop((first_column, start, last_column, end))
        strips.append(_pass(strip, (width, end - start), interpolation, across, None))
    return _pass(np.concatenate(strips), size, interpolation, None, down)


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
    pixels: Image.Image | UInt8Array,
    size: tuple[int, int],
    interpolation: Interpolation,
    across: tuple[float, float] | None,
    down: tuple[float, float] | None,
) -> UInt8Array:
    """Resample in one direction, to (width, height); None: this direction stays unchanged."""
    width, height = pixels.size if isinstance(pixels, Image.Image) else pixels.shape[1::-1]
    (left, columns), (top, rows) = across or (0, width), down or (0, height)
    filtering = simd.ResizeAlg.convolution(simd.FilterType[_SIMD[interpolation][0]])
    options = simd.ResizeOptions(filtering, crop_box=simd.CropBox(left, top, columns, rows))
    source = simd.ImageData(width, height, simd.PixelType.U8x3, pixels.tobytes())
    result = simd.ImageData(*size, simd.PixelType.U8x3)
    simd.Resizer().resize(source, result, options)
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(size[1], size[0], 3)
