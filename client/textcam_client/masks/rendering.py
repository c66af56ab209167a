"""Pictures of masks: contours over the image, and PNG label maps."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from textcam_client._arrays import BoolArray, UInt8Array
from textcam_client.images import ImageInput, ImageSource

_GOLDEN = (5**0.5 - 1) / 2  # turn of hue from label to label, so that neighbours differ
_FIRST_HUE = 0.47
_DARK = 0.25  # brightness of the pixels next to a contour, relative to their own


def draw_contours(
    image: ImageInput, mask: NDArray[Any], *, width: int | None = None, fill: float = 0.0
) -> Image.Image:
    """Draw the contours of a mask, or of every label of a label map, over an image.

    A contour lies within its mask, along the pixels that touch another label, the background or
    the image's edge; a dark line outside it keeps it apart from the image.

    Args:
        image: Image of the mask's size.
        mask: (h, w) bool, or uint8 labels from pseudo_labels. Labels have the colours of
            label_image, a mask that of label 1.
        width: Width of the contours, pixels; default: a 200th of the image's shorter side.
        fill: Opacity of a label's colour inside its contour, 0..1.

    Returns:
        An RGB image.

    Raises:
        ValueError: `mask` is not a mask or label map, or not of the image's size, or an option is
            out of range.
        UnreadableImage, UnsupportedImage: The image cannot be read, or its type is unsupported.
    """
    labels = _labels(mask)
    pixels = np.asarray(ImageSource(image).picture())
    if labels.shape != pixels.shape[:2]:
        raise ValueError(
            f"the mask is {labels.shape[0]} x {labels.shape[1]}, and the image "
            f"{pixels.shape[0]} x {pixels.shape[1]}: pass the same image to pseudo_mask or "
            "pseudo_labels, and the mask gets its size"
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
    """Turn a label map into a palette image, for `.save("labels.png")`.

    The pixels are the labels, so `numpy.asarray(Image.open("labels.png"))` returns them.

    Args:
        mask: (h, w) uint8 labels, or bool.

    Returns:
        An image of mode "P": 0 is black, 255 is white, and consecutive labels have different
        colours.

    Raises:
        ValueError: `mask` is not a mask or label map.
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
    """Remove the pixels with one outside the mask within `by` steps, over sides or corners.

    Args:
        mask: (h, w).
        by: Number of pixels.
        beyond: Count pixels outside the image as mask.
    """
    padded = np.pad(mask, by, constant_values=beyond)
    windows = sliding_window_view(padded, 2 * by + 1, 0).all(-1)
    return np.asarray(sliding_window_view(windows, 2 * by + 1, 1).all(-1))


def _palette() -> NDArray[np.float64]:
    """Return the colours of the labels, (256, 3) RGB."""
    hues = (_FIRST_HUE + _GOLDEN * np.arange(254)) % 1
    colours = [colorsys.hsv_to_rgb(hue, 0.9, 1.0) for hue in hues]
    return np.asarray(np.rint(np.array([(0, 0, 0), *colours, (1, 1, 1)]) * 255))
