"""Seeds grown along an image's colours: from a coarse heatmap to whole objects.

A map of 7 x 7 or 12 x 12 cells knows where an object is, not where it ends; the image knows
that. Three steps, without training:

1. Seeds: where the heat is nearly the hottest.
2. Reactivation: heat walks at random from pixel to pixel, seldom across a change of colour, and
   now and then starts anew where the heatmap was hot. It evens out within an object, drains away
   in a background that reaches far, and stays low behind an edge.
3. Threshold: the level whose contour is steepest, among those that keep half of the seeds;
   then only the regions that hold a seed.

Sources: confident seeds, and activation bounded so that the weaker parts of an object come up
to it, are the seed reactivation of GSLM (arXiv 2303.02449), which trains a network for it; the
walk and its weights are random-walk segmentation's (Grady, PAMI 2006), here with restarts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from textcam_client._arrays import BoolArray, Float64Array, UInt8Array
from textcam_client.masks.connected_components import connected_components

SEED = 0.9
"""Seeds are at least so hot, of the hottest."""

_KEPT = 0.5  # share of the seeds that a threshold must keep
_LOWEST = 0.5  # threshold, of the level that keeps just so many seeds
_LEVELS = 36  # thresholds that are tried
_SHORT = 0.3  # of the image's side: a contour's mean step is of so many pixels more, without step
_REACH = 0.1  # share of the image over which heat spreads where no edge is
_LEAK = 1e-3  # of the walk, across the strongest edge
_SIDE = 160  # of the image that the walk runs on; more costs time and gains no object
_BLUR = 0.006  # of that side: fur and grain are no edges
_STEPS, _PRECISION = 400, 1e-3  # of the solver


def grow_seeds(heat: NDArray[Any], image: UInt8Array) -> tuple[Float64Array, float]:
    """Spread heat over what has its colour and is joined to it.

    Args:
        heat: (h, w), at least 0, not all 0; any unit.
        image: (h, w, 3) RGB.

    Returns:
        Reactivated heat (h, w), about 1 where the seeds are, and the threshold whose contour is
        steepest.
    """
    picture = Image.fromarray(image)
    scale = min(1.0, _SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    blur = ImageFilter.GaussianBlur(_BLUR * max(size))
    colours = _lab(np.asarray(picture.resize(size, Image.Resampling.BOX).filter(blur)))
    small = _resized(heat / heat.max(), size)
    spread = _walk(small, colours)
    # The level that just keeps so many seeds becomes 1: a speck that is hotter does not count.
    spread /= np.quantile(spread[small >= SEED * small.max()], 1 - _KEPT)
    return _resized(spread, picture.size), _steepest(spread)


def grow(heat: NDArray[Any], spread: Float64Array, threshold: float) -> BoolArray:
    """The regions of `spread >= threshold` that hold a seed; the seeds where none does.

    Args:
        heat: (h, w), as it was.
        spread: (h, w), as it was reactivated.
        threshold: Of `spread`.
    """
    seeds = np.asarray(heat >= SEED * heat.max())
    regions = connected_components(spread >= threshold)
    held = np.zeros(int(regions.max()) + 1, np.bool_)
    held[regions[seeds]] = True
    held[0] = False
    return np.asarray(held[regions]) if held.any() else seeds


def _walk(heat: Float64Array, colours: Float64Array) -> Float64Array:
    """Minimise sum_ij w_ij (x_i - x_j)^2 + restart * sum_i (x_i - heat_i)^2 over x, (h, w).

    i and j are neighbours; w_ij = exp(-d_ij^2 / mean d^2) + leak, d_ij their colours' distance.
    """
    across = ((colours[:, 1:] - colours[:, :-1]) ** 2).sum(-1)
    down = ((colours[1:] - colours[:-1]) ** 2).sum(-1)
    mean = (across.sum() + down.sum()) / max(across.size + down.size, 1) or 1.0
    across, down = np.exp(-across / mean) + _LEAK, np.exp(-down / mean) + _LEAK
    restart = 1 / (_REACH * heat.size)
    diagonal = np.full(heat.shape, restart)
    diagonal[:, 1:] += across
    diagonal[:, :-1] += across
    diagonal[1:] += down
    diagonal[:-1] += down

    def times(x: Float64Array) -> Float64Array:
        y = diagonal * x
        y[:, 1:] -= across * x[:, :-1]
        y[:, :-1] -= across * x[:, 1:]
        y[1:] -= down * x[:-1]
        y[:-1] -= down * x[1:]
        return y

    # Conjugate gradients, preconditioned by the diagonal.
    x = heat.copy()
    residual = restart * heat - times(x)
    direction = scaled = residual / diagonal
    size = float((residual * scaled).sum())
    enough = _PRECISION**2 * restart**2 * float((heat**2 / diagonal).sum())
    for _ in range(_STEPS):
        if size <= enough:
            break
        moved = times(direction)
        step = size / float((direction * moved).sum())
        x = x + step * direction
        residual = residual - step * moved
        scaled = residual / diagonal
        size, before = float((residual * scaled).sum()), size
        direction = scaled + size / before * direction
    return np.maximum(x, 0)


def _steepest(spread: Float64Array) -> float:
    """The level, up to 1, whose contour has the largest mean step from the outside to the inside.

    The mean over few pixels is chance: short contours are held back.
    """
    levels = np.linspace(_LOWEST, 1, _LEVELS)
    total, count = np.zeros(_LEVELS + 1), np.zeros(_LEVELS + 1)
    for one, other in ((spread[1:], spread[:-1]), (spread[:, 1:], spread[:, :-1])):
        low, high = np.minimum(one, other).ravel(), np.maximum(one, other).ravel()
        # A contour at any level above `low` and up to `high` runs between the two.
        for ends, sign in ((low, 1), (high, -1)):
            place = np.searchsorted(levels, ends, "right")
            total += sign * np.bincount(place, high - low, _LEVELS + 1)
            count += sign * np.bincount(place, minlength=_LEVELS + 1)
    steps = np.cumsum(total) / (np.cumsum(count) + _SHORT * spread.size**0.5)
    return float(levels[steps[:_LEVELS].argmax()])


def _lab(pixels: UInt8Array) -> Float64Array:
    """From sRGB (h, w, 3) to CIE L*a*b* (D65), whose distances are as people see them."""
    value = pixels / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.moveaxis(linear @ to_xyz.T / to_xyz.sum(1), -1, 0)
    x, y, z = (np.where(v > 216 / 24389, np.cbrt(v), 841 / 108 * v + 4 / 29) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _resized(values: NDArray[Any], size: tuple[int, int]) -> Float64Array:
    """(h, w) to a size (width, height), bilinear."""
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float64)
