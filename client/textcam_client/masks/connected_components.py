"""Connected regions of a mask, and the boxes around them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textcam_client._arrays import BoolArray, Int32Array


class Box(NamedTuple):
    """A rectangle of whole pixels, in the order of COCO's `bbox`.

    Attributes:
        x: Left column.
        y: Top row.
        width: Number of columns.
        height: Number of rows.
    """

    x: int
    y: int
    width: int
    height: int


def connected_components(mask: NDArray[Any]) -> Int32Array:
    """Number the regions of a mask; pixels that touch by a side or a corner belong together.

    Args:
        mask: (h, w) bool.

    Returns:
        int32 (h, w): 0 outside the mask, then 1, 2 ... in row order of their first pixels.

    Raises:
        ValueError: `mask` is not a mask.
    """
    mask = checked_mask(mask)
    starts, ends = _runs(mask)
    first = _joined(*_touching(starts, ends, mask.shape[1] + 2), len(starts))
    _, number = np.unique(first, return_inverse=True)
    regions = np.zeros(mask.shape, np.int32)
    regions[mask] = np.repeat(number.astype(np.int32) + 1, ends - starts)
    return regions


def bounding_boxes(
    mask: NDArray[Any], *, largest: bool = False, min_area: int = 1
) -> tuple[Box, ...]:
    """Compute the boxes around a mask's connected regions.

    Args:
        mask: (h, w) bool; `labels == 2` for one label of a label map.
        largest: Return only the box of the region with the most pixels.
        min_area: Leave out regions of fewer pixels.

    Returns:
        Boxes in pixels, largest region first; none for an empty mask.

    Raises:
        ValueError: `mask` is not a mask.
    """
    mask = checked_mask(mask)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return ()
    number = connected_components(mask)[mask] - 1
    areas = np.bincount(number)
    spans = []
    for places in (columns, rows):
        low = np.full(len(areas), np.iinfo(np.intp).max)
        high = np.zeros(len(areas), np.intp)
        np.minimum.at(low, number, places)
        np.maximum.at(high, number, places)
        spans.append((low, high - low + 1))
    order = np.argsort(-areas, kind="stable")
    order = order[areas[order] >= min_area][: 1 if largest else None]
    (x, width), (y, height) = spans
    return tuple(Box(int(x[i]), int(y[i]), int(width[i]), int(height[i])) for i in order)


def checked_mask(mask: NDArray[Any]) -> BoolArray:
    """Return the mask if it is (h, w) bool; raises ValueError."""
    given = np.asarray(mask)
    if given.dtype != np.bool_ or given.ndim != 2 or not given.size:
        raise ValueError(
            f"a mask is bool of shape (h, w), not {given.dtype} of shape {given.shape}; "
            "compare first: heat >= 0.5, labels == 1"
        )
    return given


def _runs(mask: BoolArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the starts and ends (exclusive) of the runs of each row, row after row.

    Rows are laid end to end with a column of False on either side, so that no run crosses.
    """
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return changes[::2], changes[1::2]


def _touching(
    starts: NDArray[np.intp], ends: NDArray[np.intp], stride: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return pairs of runs, one above the other, that touch by a side or a corner."""
    # Runs of the row below that end at or after this one's start and start at or before its end.
    low = np.searchsorted(ends, starts + stride, "left")
    high = np.searchsorted(starts, ends + stride, "right")
    counts = high - low
    above = np.repeat(np.arange(len(starts)), counts)
    offsets = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
    return above, np.repeat(low, counts) + offsets


def _joined(one: NDArray[np.intp], other: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the first member of each member's group, given pairs that belong together."""
    first = np.arange(count)
    while (first[one] != first[other]).any():
        lower = np.minimum(first[one], first[other])
        for end in (one, other):
            np.minimum.at(first, first[end], lower)
        # Follow the chains to their ends.
        while (first[first] != first).any():
            first = first[first]
    return first
