"""Masks for people and for tools: contours over the image, and PNG label maps."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from textcam_client._arrays import BoolArray, UInt8Array
from textcam_client.images import ImageInput, ImageSource

_GOLDEN = (5**0.5 - 1) / 2  # of a turn of hue from label to label: none is near the one before
_FIRST_HUE = 0.47
_DARK = 0.25  # of its brightness is left of what lies beside a contour


def draw_contours(
    image: ImageInput, mask: NDArray[Any], *, width: int | None = None, fill: float = 0.0
) -> Image.Image:
    """Draw the contours of a mask, or of every label of a label map, over an image.

    A contour lies within its mask, along the pixels that touch another label, the background or
    the image's edge; a dark line outside it keeps it apart from the image.

    Args:
        image: Of the mask's size.
        mask: (h, w) bool, or uint8 labels as pseudo_labels gives them; in the colours of
            label_image, a mask in that of label 1.
        width: Of the contours, pixels; default: a 200th of the image's shorter side, at least 1.
        fill: Opacity of a label's colour inside its contour, 0..1.

    Returns:
        An RGB image.

    Raises:
        ValueError: No mask or label map, not of the image's size, or an option out of range.
        UnreadableImage, UnsupportedImage: As the client raises them.
    """
    labels = _labels(mask)
    pixels = np.asarray(ImageSource(image).picture())
    if labels.shape != pixels.shape[:2]:
        raise ValueError(
            f"the mask is {labels.shape[0]} x {labels.shape[1]}, and the image "
            f"{pixels.shape[0]} x {pixels.shape[1]}: give pseudo_mask or pseudo_labels the same "
            "image, and the mask will be of its size"
        )
    width = max(1, round(min(labels.shape) / 200)) if width is None else width
    if width < 1 or not 0 <= fill <= 1:
        raise ValueError(
            f"width is at least 1 pixel and fill is 0..1, not width={width}, fill={fill}"
        )
    colours = _palette()[labels]
    drawn = np.where((labels > 0)[..., None], pixels + fill * (colours - pixels), pixels)
    lines, inside = np.zeros(labels.shape, np.bool_), labels > 0
    for label in np.unique(labels[inside]):
        own = labels == label
        lines |= own & ~_shrunk(own, width)
    halo = ~inside & ~_shrunk(~inside, max(1, width // 2), beyond=True)
    drawn[halo] *= _DARK
    drawn[lines] = colours[lines]
    return Image.fromarray(drawn.round().astype(np.uint8))


def label_image(mask: NDArray[Any]) -> Image.Image:
    """A label map as a palette image: `.save("labels.png")` keeps the labels as they are.

    Pixels are the labels themselves, so `numpy.asarray(Image.open("labels.png"))` has them back.

    Args:
        mask: (h, w) uint8 labels, or bool.

    Returns:
        An image of mode "P": 0 black, other labels in colours that differ from their
        neighbours', 255 white.

    Raises:
        ValueError: No mask or label map.
    """
    picture = Image.fromarray(_labels(mask))
    picture.putpalette(_palette().astype(np.uint8).tobytes())
    return picture


def _labels(mask: NDArray[Any]) -> UInt8Array:
    given = np.asarray(mask)
    if given.dtype not in (np.bool_, np.uint8) or given.ndim != 2 or not given.size:
        raise ValueError(
            f"a mask is bool, and a label map uint8, of shape (h, w), "
            f"not {given.dtype} of shape {given.shape}"
        )
    return np.ascontiguousarray(given, np.uint8)


def _shrunk(mask: BoolArray, by: int, *, beyond: bool = False) -> BoolArray:
    """Without the pixels that have one outside the mask within `by` steps, sides and corners.

    Args:
        mask: (h, w).
        by: Pixels.
        beyond: What lies beyond the image's edge counts as mask.
    """
    padded = np.pad(mask, by, constant_values=beyond)
    windows = sliding_window_view(padded, 2 * by + 1, 0).all(-1)
    return np.asarray(sliding_window_view(windows, 2 * by + 1, 1).all(-1))


def _palette() -> NDArray[np.float64]:
    """(256, 3) RGB."""
    hues = (_FIRST_HUE + _GOLDEN * np.arange(254)) % 1
    colours = [colorsys.hsv_to_rgb(hue, 0.9, 1.0) for hue in hues]
    return np.asarray(np.rint(np.array([(0, 0, 0), *colours, (1, 1, 1)]) * 255))
