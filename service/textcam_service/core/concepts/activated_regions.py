"""Activated regions: windows of an image around a channel's activation, for region-level banks.

A window is a square, because image encoders take squares and would cut the ends off others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from textcam_service.core.types import BoolArray, Crop, FloatArray, IntArray

Regions = Literal["crop", "mosaic", "dense"]
Negatives = Literal["active", "random"]

_LEAST_ENLARGED = 0.25


@dataclass(frozen=True)
class RegionSettings:
    """Settings of embedding an image's activated region in place of the image.

    Attributes:
        kind: "crop": each region alone, one pass of the embedder per region. "mosaic": several
            regions, of other images too, tiled in one picture, and the embedder's dense map
            pooled over each tile (CLIM: Wu et al. 2024, arXiv 2312.11376). "dense": one pass
            per image, and its dense map pooled over each region.
        share: A region's cells are above this share of its map's maximum; 0 <= share < 1.
        minimum: A window's least side, as a share of the shorter side of what the network saw;
            0 < minimum <= 1.
        enlarge: Approximate factor by which a region may be enlarged for the embedder, relative to
            its size in the whole image. The remaining room is filled with further copies of the
            region (crop), or with its surroundings (mosaic). An encoder that was trained on few
            sizes, such as the scenes', misreads enlarged regions. At least 0.25: a crop among its
            copies is 1 / enlarge times as wide and as high as what the network saw.
        tiles: Number of tiles along each side of a mosaic; >= 2.
        negatives: Regions that represent an image that activates a channel least, because the
            channel has no activated region in it. "active": a region that activates other channels.
            "random": a region anywhere, for comparison. Most of those show the background, so that
            every channel's direction learns to separate things from background.
    """

    kind: Regions = "crop"
    share: float = 0.5
    minimum: float = 1 / 3
    enlarge: float = 1.0
    tiles: int = 2
    negatives: Negatives = "active"

    def __post_init__(self) -> None:
        """Check that values are in range.

        Raises:
            ValueError: A value is out of range.
        """
        if not (0 <= self.share < 1 and 0 < self.minimum <= 1):
            raise ValueError("share is at least 0 and less than 1, minimum above 0 and at most 1")
        if not (self.enlarge >= _LEAST_ENLARGED and self.tiles >= 2):
            raise ValueError(f"enlarge is at least {_LEAST_ENLARGED}, tiles at least 2")
        if self.kind not in get_args(Regions) or self.negatives not in get_args(Negatives):
            kinds, rest = ", ".join(get_args(Regions)), ", ".join(get_args(Negatives))
            raise ValueError(f"kind is one of {kinds}; negatives one of {rest}")

    @property
    def least_side(self) -> float:
        """Least side of a window, as a share of the shorter side of what the network saw."""
        tile = 1 / (self.tiles * self.enlarge) if self.kind == "mosaic" else 0.0
        return min(max(self.minimum, tile), 1.0)


@dataclass(frozen=True, order=True)
class Window:
    """A part of an image, in whole pixels of it."""

    left: int
    top: int
    width: int
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def seen_window(crop: Crop, image_height: int, image_width: int) -> Window:
    """Return the window of an image that the network saw."""
    left, top = max(int(np.floor(crop.left)), 0), max(int(np.floor(crop.top)), 0)
    right = min(int(np.ceil(crop.left + crop.width)), image_width)
    bottom = min(int(np.ceil(crop.top + crop.height)), image_height)
    return Window(left, top, right - left, bottom - top)


def activated_cells(activation_map: FloatArray, share: float) -> BoolArray:
    """Find the cells above a share of the maximum that are connected with it, also by corners.

    The other peaks of a map are left out: a box around all of them would hold what lies
    between, which is most of an image with many objects.

    Args:
        activation_map: (H, W).
        share: Share of the maximum.

    Returns:
        (H, W); all False where nothing is positive.
    """
    peak = float(activation_map.max())
    if not peak > 0:
        return np.zeros(activation_map.shape, np.bool_)
    above = activation_map > share * peak
    grown = np.zeros_like(above)
    grown[np.unravel_index(int(activation_map.argmax()), above.shape)] = True
    while True:
        wider = _dilate(grown) & above
        if np.array_equal(wider, grown):
            return np.asarray(grown, np.bool_)
        grown = wider


def activated_window(
    activation_map: FloatArray,
    crop: Crop,
    image_height: int,
    image_width: int,
    settings: RegionSettings,
) -> Window | None:
    """Return the square around the cells where a channel is most active.

    A cell's pixels are those it looks at (see Crop.shift_x); border cells reach to the crop's
    border, as heatmaps are drawn. The square stays within what the network saw.

    Args:
        activation_map: (H, W) of the channel.
        crop: The part that the network saw, as Backbone.on_grid places the cells in it.
        image_height: Pixels.
        image_width: Pixels.
        settings: See RegionSettings.

    Returns:
        None where nothing is positive: there is no activated region.
    """
    cells = activated_cells(activation_map, settings.share)
    if not cells.any():
        return None
    rows, columns = np.nonzero(cells)
    top, bottom = _reach(rows, cells.shape[0], crop.top, crop.height, crop.shift_y)
    left, right = _reach(columns, cells.shape[1], crop.left, crop.width, crop.shift_x)
    side = max(right - left, bottom - top)
    centre = (left + right) / 2, (top + bottom) / 2
    return _square(centre, side, seen_window(crop, image_height, image_width), settings)


def random_window(
    seed: int, crop: Crop, image_height: int, image_width: int, settings: RegionSettings
) -> Window:
    """Draw a random square of the least side within what the network saw, by the seed."""
    seen = seen_window(crop, image_height, image_width)
    across, down = np.random.default_rng(seed).random(2).tolist()
    centre = seen.left + across * seen.width, seen.top + down * seen.height
    return _square(centre, 0.0, seen, settings)


def _square(
    centre: tuple[float, float], side: float, seen: Window, settings: RegionSettings
) -> Window:
    """Return the square of a side, at least the least one, about a centre, moved into `seen`."""
    side = max(round(max(side, settings.least_side * min(seen.width, seen.height))), 1)
    width, height = min(side, seen.width), min(side, seen.height)
    left = round(centre[0] - width / 2)
    top = round(centre[1] - height / 2)
    return Window(
        min(max(left, seen.left), seen.left + seen.width - width),
        min(max(top, seen.top), seen.top + seen.height - height),
        width,
        height,
    )


def _reach(
    found: IntArray, count: int, start: float, length: float, shift: float
) -> tuple[float, float]:
    """Return the first and last pixel that cells, numbered along one side, look at."""
    first, last = int(found.min()), int(found.max()) + 1
    low = start if first == 0 else start + shift + first * length / count
    high = start + length if last == count else start + shift + last * length / count
    return max(low, start), min(high, start + length)


def _dilate(cells: BoolArray) -> BoolArray:
    tall: BoolArray = cells.copy()
    tall[1:] |= cells[:-1]
    tall[:-1] |= cells[1:]
    wide: BoolArray = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide
