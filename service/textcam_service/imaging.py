"""Image bytes into pixels, and pixels into the network's input.

Everything is checked by the header before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from textcam_service.core.preprocess import centre_crop, normalise
from textcam_service.core.types import Crop, Float32Array, Preprocessing, UInt8Array
from textcam_service.errors import (
    AnimatedImage,
    EmptyImage,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error)


@dataclass(frozen=True)
class ImageLimits:
    """The most that is decoded.

    Attributes:
        max_bytes: Of the encoded file.
        max_pixels: Width times height.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class DecodedImage:
    """An RGB image, upright, and what decoded it ("pillow/JPEG", "raw" ...)."""

    pixels: Image.Image
    decoder: str


def decode(encoded: bytes, limits: ImageLimits) -> DecodedImage:
    """Decode a JPEG, PNG or WebP file to upright RGB.

    CMYK, grey, 16-bit, palette and alpha images become RGB; alpha is laid over white.

    Raises:
        InvalidImage: EmptyImage, UnsupportedImage, TruncatedImage or AnimatedImage.
        ImageTooLarge: Over the byte or the pixel limit.
    """
    if not encoded:
        raise EmptyImage("the image has 0 bytes", field="encoded")
    if len(encoded) > limits.max_bytes:
        raise ImageTooLarge(
            f"the image has {len(encoded):,} bytes; at most {limits.max_bytes:,} are taken, "
            "so send it smaller",
            field="encoded",
        )
    image = _open(encoded)
    _check_header(image, limits)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        return DecodedImage(_to_rgb(upright), f"pillow/{image.format}")
    except _DAMAGE as error:
        raise TruncatedImage(
            f"the {image.format} file ends early or is damaged ({error}); send it again whole",
            field="encoded",
        ) from error


def from_pixels(array: UInt8Array, limits: ImageLimits) -> DecodedImage:
    """Take raw pixels, (h, w, 3) RGB.

    Raises:
        ImageTooLarge: Over the pixel limit.
    """
    _check_pixels(array.shape[1], array.shape[0], limits, "pixels")
    return DecodedImage(Image.fromarray(array), "raw")


def prepare(image: Image.Image, preprocessing: Preprocessing) -> tuple[Float32Array, Crop]:
    """Resize, crop and normalise: RGB image -> (3, H, W), and the crop in image pixels.

    Only the crop is resampled, straight from the image, so that a very long image costs
    no more than a square one.
    """
    crop = centre_crop(image.height, image.width, preprocessing)
    box = (
        max(crop.left, 0.0),
        max(crop.top, 0.0),
        min(crop.left + crop.width, float(image.width)),
        min(crop.top + crop.height, float(image.height)),
    )
    resized = image.resize(
        (preprocessing.width, preprocessing.height),
        _RESAMPLING[preprocessing.interpolation],
        box=box,
    )
    return normalise(np.asarray(resized), preprocessing), crop


def _open(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedImage(
            "the bytes are no JPEG, PNG or WebP image", field="encoded"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"the image's header names far too many pixels: {error}", field="encoded"
        ) from error
    except _DAMAGE as error:
        raise InvalidImage(
            f"the image's header is damaged ({error}); send it again whole", field="encoded"
        ) from error


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    _check_pixels(image.width, image.height, limits, "encoded")
    try:
        frames = getattr(image, "n_frames", 1)
    except _DAMAGE as error:
        raise TruncatedImage(
            f"the file's frames cannot be read ({error}); send it again whole", field="encoded"
        ) from error
    # Some cameras append a preview as a second frame of a JPEG (MPO); the first is the picture.
    if frames > 1 and image.format in ("PNG", "WEBP"):
        raise AnimatedImage(
            f"the image has {frames} frames; send the one to be explained", field="encoded"
        )


def _check_pixels(width: int, height: int, limits: ImageLimits, field: str) -> None:
    if width < 1 or height < 1:
        raise EmptyImage(f"the image is {width} x {height} pixels", field=field)
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image is {width} x {height} = {width * height:,} pixels; at most "
            f"{limits.max_pixels:,} are taken, so send it smaller",
            field=field,
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
