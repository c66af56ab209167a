"""Regions as pictures for an embedder: alone, tiled, or left where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from textcam_service.core.concepts.activated_regions import RegionSettings, Window
from textcam_service.core.types import Float32Array, Float64Array
from textcam_service.offline.embedders.base import Embedder, part_embedder


@dataclass(frozen=True)
class RegionView:
    """An image and its regions.

    Attributes:
        picture: RGB.
        seen: The part of it that the network saw.
        windows: Its regions, no two equal.
    """

    picture: Image.Image
    seen: Window
    windows: tuple[Window, ...]


def embed_regions(
    views: Sequence[RegionView], embedder: Embedder, settings: RegionSettings
) -> tuple[Float32Array, int]:
    """Embed all regions of some images.

    Returns:
        (R, E) unit vectors in the images' and their windows' order, and how many pictures the
        embedder was given.

    Raises:
        EmbedderError: Mosaics or dense regions of an embedder that does not see parts.
    """
    if settings.kind == "crop":
        alone = [_alone(view, window, settings) for view in views for window in view.windows]
        return embedder.embed_images(alone), len(alone)
    if settings.kind == "dense":
        seen = [view.picture.crop(view.seen.box) for view in views]
        parts = [_parts(view) for view in views]
        return part_embedder(embedder).embed_parts(seen, parts), len(seen)
    return _tiled(views, embedder, settings.tiles)


def _tiled(views: Sequence[RegionView], embedder: Embedder, side: int) -> tuple[Float32Array, int]:
    able = part_embedder(embedder)
    tiles = [view.picture.crop(window.box) for view in views for window in view.windows]
    # Shuffled, because a tile also sees the edges of its neighbours. If these came from the same
    # image, they could bring back the region's surroundings.
    order = np.random.default_rng(0).permutation(len(tiles))
    shuffled = [tiles[index] for index in order]
    starts = range(0, len(tiles), side**2)
    mosaics = [mosaic(shuffled[at : at + side**2], side, able.part_size) for at in starts]
    pictures, parts = [picture for picture, _ in mosaics], [own for _, own in mosaics]
    return able.embed_parts(pictures, parts)[np.argsort(order)], len(pictures)


def mosaic(
    tiles: Sequence[Image.Image], side: int, size: tuple[int, int]
) -> tuple[Image.Image, Float64Array]:
    """Tile pictures, row by row.

    Args:
        tiles: At most side x side, each stretched to its tile; the places left over stay grey.
        side: Tiles along each side.
        size: (height, width) of the mosaic, pixels.

    Returns:
        The mosaic, and (P, 4) left, top, right, bottom of each tile as shares of its sides.
    """
    height, width = size
    rows = [round(height * place / side) for place in range(side + 1)]
    columns = [round(width * place / side) for place in range(side + 1)]
    canvas, parts = Image.new("RGB", (width, height), (128, 128, 128)), []
    for place, tile in enumerate(tiles):
        row, column = divmod(place, side)
        left, top, right, bottom = columns[column], rows[row], columns[column + 1], rows[row + 1]
        shrunk = tile.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        canvas.paste(shrunk, (left, top))
        parts.append([left / width, top / height, right / width, bottom / height])
    return canvas, np.array(parts, np.float64).reshape(-1, 4)


def copies(picture: Image.Image, times: int) -> Image.Image:
    """Repeat a picture times x times, every second one mirrored so that edges continue."""
    pixels = np.asarray(picture)
    across = np.concatenate([pixels[:, :: -1 if i % 2 else 1] for i in range(times)], axis=1)
    return Image.fromarray(
        np.concatenate([across[:: -1 if i % 2 else 1] for i in range(times)], axis=0)
    )


def _alone(view: RegionView, window: Window, settings: RegionSettings) -> Image.Image:
    """Cut out a region, with copies in the room that is left when it is not to be enlarged."""
    whole = min(view.seen.width, view.seen.height)
    shown = settings.enlarge * max(window.width, window.height)
    return copies(view.picture.crop(window.box), max(round(whole / shown), 1))


def _parts(view: RegionView) -> Float64Array:
    """Return windows (P, 4) as shares of what the network saw."""
    boxes = np.array([window.box for window in view.windows], np.float64).reshape(-1, 4)
    origin = np.array([view.seen.left, view.seen.top] * 2)
    return np.asarray((boxes - origin) / np.array([view.seen.width, view.seen.height] * 2))
