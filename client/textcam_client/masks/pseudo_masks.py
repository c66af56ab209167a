"""Pseudo-masks: the pixels of the objects that a heatmap points at.

    mask = pseudo_mask(result)                    # one target
    labels = pseudo_labels(result.explanations)   # several, each pixel to one
    bounding_boxes(mask), encode_rle(mask), draw_contours("cat.jpg", mask)

All functions take arrays too. They need only numpy and Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textcam_client._arrays import BoolArray, Float32Array, UInt8Array
from textcam_client.images import ImageInput, ImageSource
from textcam_client.masks.random_walk import grow, grow_seeds

MaskMethod: TypeAlias = Literal["seeds", "otsu", "fixed"]

MAX_LABELS = 254
"""Largest label of a label map; many tools read 255 as "ignore"."""

_BINS = 256


@runtime_checkable
class Explained(Protocol):
    """Source of a heatmap of an image: Explanation, SaliencyGroup, or a result of one target."""

    def heatmap(self, size: tuple[int, int] | None = None) -> Float32Array:
        """Compute the heatmap, by default at image resolution."""

    def picture(self) -> Image.Image:
        """Open the image."""


Heat: TypeAlias = Explained | NDArray[Any]


def pseudo_mask(
    heat: Heat,
    *,
    method: MaskMethod = "seeds",
    threshold: float = 0.5,
    image: ImageInput | None = None,
) -> BoolArray:
    """Cut a heatmap into a mask.

    Args:
        heat: A result of one target, an explanation, a group, or a heatmap: (h, w), at least 0,
            any unit.
        method: "seeds": the hottest pixels are seeds, and heat spreads from them along the
            image's colours to whole objects (see masks.random_walk). "otsu": the threshold
            that separates the heat best into two classes (Otsu 1979), over all pixels, 256 bins.
            "fixed": `threshold`. Only "seeds" uses the image.
        threshold: For "fixed": share of the hottest pixel's heat, 0..1; the mask includes it.
        image: The image, for "seeds"; default: the explained image. It sets the size of the mask.

    Returns:
        (h, w) bool; empty without heat, full if all heat is equal.

    Raises:
        ValueError: The heat is not a map, an option is out of range, or "seeds" has no image.
        MapsDeclined: The result was requested without maps.
        PictureUnavailable: The image's file is gone or has changed.
    """
    labels = pseudo_labels([heat], method=method, threshold=threshold, image=image)
    return np.asarray(labels == 1)


def pseudo_labels(
    heats: Sequence[Heat],
    *,
    method: MaskMethod = "seeds",
    threshold: float = 0.5,
    image: ImageInput | None = None,
) -> UInt8Array:
    """Cut several heatmaps of one image into a label map.

    Each is cut on its own, as by pseudo_mask. A pixel in several masks goes to the label with the
    highest heat there, or the earlier one on a tie. Each label's heat is relative to its hottest
    pixel, or with "seeds" to its seeds.

    Args:
        heats: `result.explanations`, `result.groups`, or heatmaps of one size.
        method: As in pseudo_mask.
        threshold: As in pseudo_mask.
        image: As in pseudo_mask; the same for all.

    Returns:
        (h, w) uint8: 0 is background, 1 the first of `heats`, and so on.

    Raises:
        ValueError: As in pseudo_mask; or there are no heatmaps, too many, or different sizes.
        MapsDeclined, PictureUnavailable: As in pseudo_mask.
    """
    if method not in get_args(MaskMethod):
        raise ValueError(f"method is one of {get_args(MaskMethod)}, not {method!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is a share of the hottest heat, above 0 to 1, not {threshold}")
    if not 1 <= len(heats) <= MAX_LABELS:
        raise ValueError(f"a label map has 1 to {MAX_LABELS} labels, not {len(heats)}")
    pixels = _pixels(heats[0], image) if method == "seeds" or image is not None else None
    size = _values(heats[0], None).shape if pixels is None else pixels.shape[:2]
    labels, best = np.zeros(size, np.uint8), np.zeros(size)
    for label, heat in enumerate(heats, 1):
        mask, level = _cut(_values(heat, size), method, threshold, pixels)
        won = mask & (level > best)
        labels[won], best[won] = label, level[won]
    return labels


def otsu_threshold(values: NDArray[Any]) -> float:
    """Compute the threshold with the largest variance between the two classes of values.

    Values above it are the upper class; it is the middle of one of 256 bins (Otsu, IEEE Trans.
    SMC 1979).

    Args:
        values: Array of any shape; if all are equal, the threshold is their value.
    """
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    sums = np.cumsum(counts * centres)
    if not (below * above).any() or np.ptp(values) == 0:
        return float(np.max(values))
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    return float(centres[:-1][between.argmax()])


def _cut(
    heat: NDArray[np.float64], method: MaskMethod, threshold: float, pixels: UInt8Array | None
) -> tuple[BoolArray, NDArray[np.float64]]:
    """Return a label's mask, and the relative heat (h, w) of each pixel."""
    hottest = heat.max()
    if hottest == heat.min():
        return np.full(heat.shape, hottest > 0), np.ones(heat.shape)
    if method == "seeds" and pixels is not None:
        spread, level = grow_seeds(heat, pixels)
        return grow(heat, spread, level), spread
    level = otsu_threshold(heat) if method == "otsu" else threshold * hottest
    mask = heat > level if method == "otsu" else heat >= level
    return np.asarray(mask), heat / hottest


def _pixels(heat: Heat, image: ImageInput | None) -> UInt8Array:
    if image is not None:
        return np.asarray(ImageSource(image).picture())
    if isinstance(heat, Explained):
        return np.asarray(heat.picture())
    raise ValueError(
        "method='seeds' grows along the image's colours: pass image=, or use method='otsu'"
    )


def _values(heat: Heat, size: tuple[int, ...] | None) -> NDArray[np.float64]:
    """Return a heatmap of size (h, w), float64; arrays of the caller are checked."""
    if isinstance(heat, Explained):
        return np.asarray(heat.heatmap(None if size is None else (size[0], size[1])), np.float64)
    try:
        values = np.asarray(heat, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "heat is a result, an explanation or a group, or an array (h, w), "
            f"not {type(heat).__name__}"
        ) from error
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a heatmap is (h, w), not of shape {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("heat is finite and at least 0; for a signed map pass np.maximum(map, 0)")
    if size is not None and values.shape != size:
        raise ValueError(
            f"the heatmap is {values.shape[0]} x {values.shape[1]}, and the image, or the first "
            f"heatmap, {size[0]} x {size[1]}: pass heatmaps at image resolution, as "
            "Explanation.heatmap() returns them"
        )
    return values
