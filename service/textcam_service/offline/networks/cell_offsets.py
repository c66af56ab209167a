"""Offsets of activation maps' cells from an even grid over the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from textcam_service.core.types import Float32Array, Float64Array, FloatArray

MapsOf = Callable[[Float32Array], FloatArray]
"""Images (N, 3, h, w) -> activation maps (N, D, H, W)."""

_SIDE = 8  # places along a side; an image for each
_BATCH = 6
_REACH = 1.0  # cells, from the image's middle to the farthest place
_MIN_OFFSET = 1 / 8  # of a cell; several times the measurement's own scatter


def cell_offset(run: MapsOf, height: int, width: int) -> tuple[float, float]:
    """Measure by how much the maps' cells look right of and below an even grid, pixels.

    A square of an image is replaced by another image's pixels. The centre of the change in the
    maps is compared with the centre of the square. This measures the network with its weights.
    Strides and paddings alone do not determine the offset: kernels learn to compensate for the half
    cell by which these shift a cell.

    Squares lie in pairs about the image's middle, so that its border, which cuts the changes,
    favours no side. Changes count by their squares and above their mean, so that what reaches all
    cells alike (as by squeeze and excitation) hides nothing.

    Less than an eighth of a cell counts as none: networks of even patches measure it as noise,
    and it cannot be seen in a heatmap.

    Args:
        run: The network, for any number of images.
        height: Height of its input.
        width: Width of its input.
    """
    rng = np.random.default_rng(0)
    count = _SIDE**2
    images, others = (noise_images(rng, count, height, width) for _ in range(2))
    along = ((np.arange(_SIDE) + 0.5) / _SIDE * 2 - 1) * _REACH
    places = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    rows, columns = run(images[:1]).shape[2:]
    cell = np.array([width / columns, height / rows])
    found = []
    for start in range(0, count, _BATCH):
        part = slice(start, start + _BATCH)
        found.append(_shifts(run, images[part], others[part], places[part] * cell, cell))
    shifts = np.concatenate(found)
    shifts = shifts[np.isfinite(shifts).all(axis=1)]
    if not len(shifts):
        return 0.0, 0.0
    right, down = shifts.mean(axis=0)
    return _rounded(right, cell[0]), _rounded(down, cell[1])


def _shifts(
    run: MapsOf,
    images: Float32Array,
    others: Float32Array,
    away: Float64Array,
    cell: Float64Array,
) -> Float64Array:
    """Measure (right, down) with each image: (N, 2), pixels; nan where nothing changes.

    Args:
        run: The network.
        images: (N, 3, h, w).
        others: Images that fill their squares.
        away: (N, 2) from the middle of the image to that of the square, (x, y), pixels.
        cell: Its (width, height), pixels.
    """
    before = np.asarray(run(images), np.float64)
    size = np.array([images.shape[3], images.shape[2]])
    side = np.maximum(np.round(cell / 2), 1).astype(int)
    free = size - side
    first = np.clip(np.round(free / 2 + away), 0, free).astype(int)
    centres = []
    for corners in (first, free - first):
        shown = images.copy()
        for image, other, (left, top) in zip(shown, others, corners, strict=True):
            square = np.s_[:, top : top + side[1], left : left + side[0]]
            image[square] = other[square]
        changes = ((run(shown) - before) ** 2).sum(axis=1)
        centres.append([_centre(change) * cell for change in changes])
    return np.asarray(size / 2 - np.mean(centres, axis=0), np.float64)


def _centre(change: Float64Array) -> Float64Array:
    """Return the centre (x, y) of a map's excess over its mean, cells; nan without any."""
    excess = np.maximum(change - change.mean(), 0)
    if change.size == 1:
        return np.array([0.5, 0.5])
    total = excess.sum()
    if not 0 < total < np.inf:
        return np.array([np.nan, np.nan])
    rows, columns = (np.arange(count) + 0.5 for count in change.shape)
    centre = [excess.sum(axis=0) @ columns / total, excess.sum(axis=1) @ rows / total]
    return np.array(centre, np.float64)


def _rounded(shift: float, cell: float) -> float:
    return round(float(shift) * 4) / 4 if abs(shift) >= _MIN_OFFSET * cell else 0.0


def noise_images(rng: np.random.Generator, count: int, height: int, width: int) -> Float32Array:
    """Draw noise with photographs' spectrum, 1/f, mostly grey; in normalised pixels' range."""
    down, across = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    frequency = np.hypot(down[:, None], across)
    frequency[0, 0] = np.inf  # no mean
    noise = rng.normal(size=(count, 4, height, width))
    waves = np.fft.irfft2(np.fft.rfft2(noise) / frequency, (height, width))
    waves /= np.maximum(waves.std(axis=(2, 3), keepdims=True), 1e-9)
    return np.asarray(0.8 * waves[:, :1] + 0.6 * waves[:, 1:], np.float32)
