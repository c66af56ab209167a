"""Growth of seeds along an image's colours: from a coarse heatmap to whole objects.

A map of 7 x 7 or 12 x 12 cells shows where an object is, but not its outline, which the image has.
There are three steps, without training:

1. Seeds: the pixels with nearly the hottest heat.
2. Reactivation: heat walks at random from pixel to pixel, rarely across a change of colour, and
   sometimes restarts in the hot parts of the heatmap. It becomes even within an object, drains
   away in a wide background, and stays low behind an edge.
3. Threshold: the level with the steepest contour, among those that keep half of the seeds. Only
   the regions with a seed are kept.

Sources: confident seeds, and a bound on activation that lets an object's weaker parts reach it,
are the seed reactivation of GSLM (arXiv 2303.02449), which trains a network for it. The walk and
its weights are those of random-walk segmentation (Grady, PAMI 2006), here with restarts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from textcam_client._arrays import BoolArray, Float64Array, UInt8Array
from textcam_client.masks.connected_components import connected_components

SEED = 0.9
"""Heat of seeds, at least, as a share of the hottest."""

_KEPT = 0.5  # share of the seeds that a threshold must keep
_LOWEST = 0.5  # lowest threshold, as a share of the level that keeps just _KEPT of the seeds
_LEVELS = 36  # number of thresholds to try
_SHORT = 0.3  # of the image's side: pixels without a step that are added to each contour's mean
_REACH = 0.1  # share of the image over which heat spreads without an edge
_LEAK = 1e-3  # weight of the walk across the strongest edge
_SIDE = 160  # pixels of the image for the walk; larger ones cost time and find no more objects
_BLUR = 0.006  # of that side: removes the edges of fur and grain
_STEPS, _PRECISION = 400, 1e-3  # iterations and precision of the solver


def grow_seeds(heat: NDArray[Any], image: UInt8Array) -> tuple[Float64Array, float]:
    """Spread heat over connected pixels of similar colour.

    Args:
        heat: (h, w), at least 0, not all 0; any unit.
        image: (h, w, 3) RGB.

    Returns:
        Reactivated heat (h, w), about 1 at the seeds, and the threshold with the steepest contour.
    """
    picture = Image.fromarray(image)
    scale = min(1.0, _SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    blur = ImageFilter.GaussianBlur(_BLUR * max(size))
    colours = _lab(np.asarray(picture.resize(size, Image.Resampling.BOX).filter(blur)))
    small = _resized(heat / heat.max(), size)
    spread = _walk(small, colours)
    # The level that keeps just that share of the seeds becomes 1; a hotter speck does not count.
    spread /= np.quantile(spread[small >= SEED * small.max()], 1 - _KEPT)
    return _resized(spread, picture.size), _steepest(spread)


def grow(heat: NDArray[Any], spread: Float64Array, threshold: float) -> BoolArray:
    """Return the regions of `spread >= threshold` with a seed; without any, the seeds.

    Args:
        heat: (h, w), the heatmap.
        spread: (h, w), the reactivated heat.
        threshold: Threshold of `spread`.
    """
    seeds = np.asarray(heat >= SEED * heat.max())
    regions = connected_components(spread >= threshold)
    held = np.zeros(int(regions.max()) + 1, np.bool_)
    held[regions[seeds]] = True
    held[0] = False
    return np.asarray(held[regions]) if held.any() else seeds


def _walk(heat: Float64Array, colours: Float64Array) -> Float64Array:
    """Minimise sum_ij w_ij (x_i - x_j)^2 + restart * sum_i (x_i - heat_i)^2 over x, (h, w).

    i and j are neighbours; w_ij = exp(-d_ij^2 / mean d^2) + leak; d_ij is the distance of their
    colours.
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
    return np.asarray(np.maximum(x, 0))


def _steepest(spread: Float64Array) -> float:
    """Return the level, up to 1, with the largest mean step across its contour.

    The mean over few pixels is chance, so short contours are penalised.
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
    """Convert sRGB (h, w, 3) to CIE L*a*b* (D65), with perceptual distances."""
    value = pixels / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.moveaxis(linear @ to_xyz.T / to_xyz.sum(1), -1, 0)
    x, y, z = (np.where(v > 216 / 24389, np.cbrt(v), 841 / 108 * v + 4 / 29) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _resized(values: NDArray[Any], size: tuple[int, int]) -> Float64Array:
    """Resize (h, w) to a size (width, height), bilinear."""
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float64)
