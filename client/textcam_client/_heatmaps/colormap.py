"""Colours of heat, and heat over an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textcam_client._arrays import Float32Array, UInt8Array

# From cool to hot; lightness rises all the way, so the order survives in grey.
_CONTROL_POINTS = np.array(
    [
        (0.00, 84, 58, 216),
        (0.20, 132, 48, 216),
        (0.40, 204, 48, 168),
        (0.58, 238, 78, 96),
        (0.75, 251, 126, 36),
        (0.90, 254, 196, 44),
        (1.00, 255, 246, 132),
    ]
)
_FAINT = 0.2
_FRAME = (255, 255, 255)
_STEPS = 256
_TABLE = np.stack(
    [
        np.interp(np.linspace(0, 1, _STEPS), _CONTROL_POINTS[:, 0], _CONTROL_POINTS[:, channel])
        for channel in (1, 2, 3)
    ],
    axis=1,
).astype(np.float32)


def blend(pixels: UInt8Array, heat: Float32Array, opacity: float = 0.75) -> UInt8Array:
    """Draw heat over an image; hotter parts are more opaque.

    Args:
        pixels: (h, w, 3) RGB.
        heat: (h, w), 0..1; where it is 0 the image stays unchanged.
        opacity: Opacity of the hottest heat, 0..1.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    heat = np.clip(heat, 0, 1)
    # The exponent below 1 makes medium heat visible. The faintest heat fades in, so that there is
    # no edge at the end of the support or of the crop.
    faint = np.minimum(heat / np.float32(_FAINT), 1)
    alpha = (opacity * heat**0.65 * faint**2 * (3 - 2 * faint))[..., None]
    mixed = pixels * (1 - alpha) + _colours(heat) * alpha
    return np.asarray(mixed.round(), np.uint8)


def spotlight(
    pixels: UInt8Array, seen: NDArray[np.bool_], frame: int, brightness: float = 0.4
) -> UInt8Array:
    """Dim the pixels outside the crop, and draw a line around the crop.

    Args:
        pixels: (h, w, 3) RGB.
        seen: (h, w), True in the crop, a rectangle; if it fills the image, nothing changes.
        frame: Width of the line, inside the rectangle, pixels.
        brightness: Brightness of the dimmed pixels, relative to their own, 0..1.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if seen.all() or not rows.size or not columns.size:
        return pixels
    lit: UInt8Array = pixels.copy()
    lit[~seen] = (pixels[~seen] * brightness).round()
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    line = np.zeros_like(seen)
    line[top:bottom, left:right] = True
    line[top + frame : bottom - frame, left + frame : right - frame] = False
    lit[line] = _FRAME
    return lit


def _colours(heat: Float32Array) -> Float32Array:
    index = (np.clip(heat, 0, 1) * (_STEPS - 1)).round().astype(np.intp)
    return np.asarray(_TABLE[index])
