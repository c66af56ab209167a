"""Share of a phrase's map inside the object's mask."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textcam_client._image_files.orientation import DAMAGE
from textcam_client.types import Explanation

# A map has few cells: more pixels would only cost time.
_LONGEST_SIDE = 224
_MOST_STRETCH = 1.02


class MaskUnusable(Exception):
    """The mask cannot be decoded, or is no mask of this image."""


def read_mask(content: bytes, image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the object's share of each pixel, float32 (h, w), at most 224 pixels a side.

    Args:
        content: Image file; the object is where it is not 0.
        image_size: (h, w) of the image that it belongs to.

    Raises:
        MaskUnusable: It cannot be decoded, or has other proportions than the image.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            pixels = np.asarray(opened)
            if opened.mode in ("LA", "RGBA"):
                pixels = pixels[..., :-1] * (pixels[..., -1:] > 0)
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise MaskUnusable(f"the mask cannot be decoded: {error}") from error
    inside = pixels > 0 if pixels.ndim == 2 else (pixels > 0).any(axis=-1)
    (height, width), (mask_height, mask_width) = image_size, inside.shape
    stretch = (width / height) / (mask_width / mask_height)
    if not 1 / _MOST_STRETCH < stretch < _MOST_STRETCH:
        raise MaskUnusable(
            f"the mask has {mask_width} x {mask_height} pixels, and the image {width} x {height}"
        )
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray(inside.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(grey, np.float32)


def inside_shares(explanation: Explanation, mask: NDArray[np.float32]) -> list[float | None]:
    """Return the share of each group's positive map inside the mask, 0..1; None: no such part."""
    shares: list[float | None] = []
    height, width = mask.shape
    for group in explanation.groups:
        if group.saliency_map is None:
            shares.append(None)
            continue
        heat = group.heatmap((height, width), scale="own").astype(np.float64)
        total = float(heat.sum())
        shares.append(float((heat * mask).sum() / total) if total > 0 else None)
    return shares
