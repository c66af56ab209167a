"""Order of activation maps' cells: each should see its own part of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.types import Float64Array, IntArray
from textcam_service.offline.networks.cell_offsets import MapsOf, noise_images

_CELLS = 24  # places of the image that are changed, one at a time
_MOST_CELLS = 1024
_IMAGES = 2
_BATCH = 6
_NEAR = 0.25  # of the map's side; dilated kernels reach far
_CLEARLY = 2.0  # times the response near the changed place
_ONLY_THERE = 30.0  # times the response at the changed place and beside it
_LEAST = 1e-4  # of the largest response: rounding tells nothing where the network sees nothing
_SMALL = 3  # cells along a side


def misplaced_share(run: MapsOf, height: int, width: int) -> float:
    """Measure how many cells see clearly another part of the image than their place shows.

    The pixels of one cell's place are replaced by another image's. A cell elsewhere that changes
    the most tells of another order in two cases:

    - It changes twice as much as any cell within a quarter of the map. Those count as near, because
      receptive fields overlap and maps may be shifted; see cell_offset. Changes count above their
      median over the places, so that what reaches all cells alike hides nothing.
    - The cell at the place and its neighbours hardly change. On maps of up to 3 cells along a side,
      all of which are near, neighbours count as elsewhere here.

    Args:
        run: The network, for any number of images.
        height: Height of its input.
        width: Width of its input.

    Returns:
        A share of the cells that were tried: all, or an even sample.
    """
    found = _responses(run, height, width, _CELLS)
    rows, columns = found.grid
    response = np.sum(found.each, axis=0)
    cells, changed = _at(np.arange(rows * columns), columns), _at(found.places, columns)
    distance = np.abs(changed[:, None] - cells).max(axis=2)
    small = min(rows, columns) <= _SMALL
    beside = np.where(distance <= (not small), response, 0).max(axis=1)
    elsewhere = response.max(axis=1) > _ONLY_THERE * beside
    if not small:
        excess = _excess(response)
        near = np.where(distance <= int(_NEAR * min(rows, columns)), excess, 0).max(axis=1)
        elsewhere |= excess.max(axis=1) > _CLEARLY * near
    told = response.max(axis=1) > _LEAST * response.max()
    return float((elsewhere & told).mean())


def cell_order(run: MapsOf, height: int, width: int) -> IntArray | None:
    """Find which cell sees each place, by changing all places in turn; arguments as above.

    Returns:
        (H, W) indices of cells, counted row by row; None: no order of all cells answers alike to
        several images, or there are too many cells to try.
    """
    rows, columns = run(noise_images(np.random.default_rng(0), 1, height, width)).shape[2:]
    if rows * columns > _MOST_CELLS:
        return None
    found = [
        _excess(response).argmax(axis=1)
        for response in _responses(run, height, width, rows * columns).each
    ]
    order = found[0]
    if len(np.unique(order)) < len(order) or any((other != order).any() for other in found):
        return None
    return np.asarray(order.reshape(rows, columns), np.int64)


@dataclass(frozen=True)
class _Responses:
    """Changes of the cells as places of images are changed.

    Attributes:
        places: (P,) the changed places, counted row by row.
        grid: (H, W) of the maps.
        each: For each image (P, H W) squared changes, of sum 1.
    """

    places: IntArray
    grid: tuple[int, int]
    each: list[Float64Array]


def _responses(run: MapsOf, height: int, width: int, most: int) -> _Responses:
    """Change at most so many places, one at a time."""
    rng = np.random.default_rng(0)
    images, others = (noise_images(rng, _IMAGES, height, width) for _ in range(2))
    before = np.asarray(run(images), np.float64)
    rows, columns = before.shape[2:]
    places = np.unique(np.linspace(0, rows * columns - 1, most).round().astype(np.int64))
    each = []
    for image, other, own in zip(images, others, before, strict=True):
        changes = []
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            shown = np.repeat(image[None], len(part), axis=0)
            for changed, (row, column) in zip(shown, _at(part, columns), strict=True):
                top, bottom = _span(row, rows, height)
                left, right = _span(column, columns, width)
                changed[:, top:bottom, left:right] = other[:, top:bottom, left:right]
            squares = ((np.asarray(run(shown), np.float64) - own) ** 2).sum(axis=1)
            changes.append(squares.reshape(len(part), -1))
        whole = np.concatenate(changes)
        each.append(whole / max(whole.sum(), np.finfo(np.float64).tiny))
    return _Responses(places, (rows, columns), each)


def _excess(response: Float64Array) -> Float64Array:
    """Return the responses above each cell's median over the places."""
    return np.asarray(np.maximum(response - np.median(response, axis=0), 0), np.float64)


def _at(indices: IntArray, columns: int) -> IntArray:
    """Return (row, column) of each cell."""
    return np.stack(np.divmod(indices, columns), axis=1)


def _span(index: int, count: int, extent: int) -> tuple[int, int]:
    """Return the first pixel of a row or column of cells, and the one after its last."""
    return round(index * extent / count), round((index + 1) * extent / count)
