"""Geometry and arithmetic of preprocessing; imaging.resampling does the resampling itself."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Crop, Float32Array, Preprocessing, UInt8Array


def center_crop(image_height: int, image_width: int, preprocessing: Preprocessing) -> Crop:
    """Compute the crop that the network sees, in pixels of the image.

    It is that of torchvision's Resize (the longer side truncated to whole pixels) followed by
    CenterCrop, converted to pixels of the original image. In the other crop modes it is that of
    timm's Resize or ResizeKeepRatio (rounded to whole pixels) and CenterCropOrPad.
    """
    resized_height, resized_width = _resized(image_height, image_width, preprocessing)
    top = _margin(resized_height, preprocessing.height)
    left = _margin(resized_width, preprocessing.width)
    scale_y, scale_x = image_height / resized_height, image_width / resized_width
    return Crop(
        left=left * scale_x,
        top=top * scale_y,
        width=preprocessing.width * scale_x,
        height=preprocessing.height * scale_y,
    )


def _resized(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return (height, width) of an image after resizing."""
    resize = preprocessing.resize
    if preprocessing.crop_mode == "center":
        shorter = min(height, width)
        return int(resize * height / shorter), int(resize * width / shorter)
    longer = max(preprocessing.height, preprocessing.width)
    frame = resize * preprocessing.height // longer, resize * preprocessing.width // longer
    if preprocessing.crop_mode == "squash":
        return frame
    ratio = max(height / frame[0], width / frame[1])
    # An image of a hundred times its width would have no pixels across.
    return max(round(height / ratio), 1), max(round(width / ratio), 1)


def _margin(resized: int, crop: int) -> int:
    """Return the start of a centred crop; negative where it is larger than the resized image."""
    return round((resized - crop) / 2) if resized >= crop else -((crop - resized) // 2)


def place_in_input(
    crop: Crop, image_height: int, image_width: int, preprocessing: Preprocessing
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the image in the network's input, in its pixels."""

    def extent(start: float, length: float, image: int, pixels: int) -> tuple[int, int]:
        first = round(max(-start, 0.0) * pixels / length)
        last = round((min(start + length, image) - start) * pixels / length)
        return first, max(last, first + 1)

    left, right = extent(crop.left, crop.width, image_width, preprocessing.width)
    top, bottom = extent(crop.top, crop.height, image_height, preprocessing.height)
    return left, top, right, bottom


def normalize(pixels: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """Normalise pixels (H, W, 3), 0..255, to (3, H, W): (pixel / 255 - mean) / std."""
    mean = np.asarray(preprocessing.mean, np.float32)[:, None, None]
    std = np.asarray(preprocessing.std, np.float32)[:, None, None]
    # A plane at a time is eight times as fast as with the colours innermost.
    scaled = np.empty((3, *pixels.shape[:2]), np.float32)
    np.multiply(pixels.transpose(2, 0, 1), np.float32(1 / 255) / std, out=scaled)
    scaled -= mean / std
    return scaled
