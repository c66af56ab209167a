"""Order of activation maps' cells: each should see its own part of the image."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float64Array, IntArray
from textcam_service.offline.networks.cell_offsets import MapsOf, noise_images

_CELLS = 24  # places of the image that are changed, one at a time
_IMAGES = 2
_BATCH = 6
_CLEARLY = 2.0  # times the response near the changed place
_SMALL = 3  # cells along a side, all of them neighbours
_ONLY_THERE = 30.0  # times the response at the changed place, of small maps


def misplaced_share(run: MapsOf, height: int, width: int) -> float:
    """Measure how many cells see clearly another part of the image than their place shows.

    The pixels of one cell's place are replaced by another image's. Of maps in order, the cells at
    that place, or next to it, change. Neighbours count because receptive fields overlap and maps
    may be shifted; see cell_offset. Responses count above their median over the places, so that
    what reaches all cells alike hides nothing. On maps of up to 3 cells along a side, neighbours
    count as elsewhere, if the cell at the place hardly changes.

    Args:
        run: The network, for any number of images.
        height: Height of its input.
        width: Width of its input.

    Returns:
        A share of the cells that were tried: all, or an even sample.
    """
    rng = np.random.default_rng(0)
    images, others = (noise_images(rng, _IMAGES, height, width) for _ in range(2))
    before = np.asarray(run(images), np.float64)
    rows, columns = before.shape[2:]
    places = np.unique(np.linspace(0, rows * columns - 1, _CELLS).round().astype(int))
    response = np.zeros((len(places), rows * columns))
    for image, other, own in zip(images, others, before, strict=True):
        shown = np.repeat(image[None], len(places), axis=0)
        for changed, (row, column) in zip(shown, _at(places, columns), strict=True):
            top, bottom = _span(row, rows, height)
            left, right = _span(column, columns, width)
            changed[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        parts = [shown[start : start + _BATCH] for start in range(0, len(shown), _BATCH)]
        maps = np.concatenate([np.asarray(run(part), np.float64) for part in parts])
        changes = ((maps - own) ** 2).sum(axis=1).reshape(len(places), -1)
        response += changes / max(changes.sum(), np.finfo(np.float64).tiny)
    return _share(response, places, rows, columns)


def _share(response: Float64Array, places: IntArray, rows: int, columns: int) -> float:
    """Return the share of places (P,) to which the cells (P, H W) respond clearly elsewhere."""
    cells, changed = _at(np.arange(rows * columns), columns), _at(places, columns)
    distance = np.abs(changed[:, None] - cells).max(axis=2)
    if min(rows, columns) <= _SMALL:
        own = np.where(distance == 0, response, 0).max(axis=1)
        return float((response.max(axis=1) > _ONLY_THERE * own).mean())
    excess = np.maximum(response - np.median(response, axis=0), 0)
    near = np.where(distance <= 1, excess, 0).max(axis=1)
    return float((excess.max(axis=1) > _CLEARLY * near).mean())


def _at(indices: IntArray, columns: int) -> IntArray:
    """Return (row, column) of each cell."""
    return np.stack(np.divmod(indices, columns), axis=1)


def _span(index: int, count: int, extent: int) -> tuple[int, int]:
    """Return the first pixel of a row or column of cells, and the one after its last."""
    return round(index * extent / count), round((index + 1) * extent / count)
