"""Decoding of image files, and preparation of pixels as the network's input.

All limits are checked by the header before a pixel is decoded.

A JPEG far larger than the network's input may be decoded at 1/2 or 1/4 of its size: libjpeg then
leaves out the high frequencies that resampling would remove. Pillow's wheels bring libjpeg-turbo,
and its draft mode does this as fast as simplejpeg (tests/bench/bench_decode.py). With
EfficientNet-Lite0 no logit moved by more than 0.3 standard deviations of the image's logits, little
more than when the file is saved once more (tests/bench/bench_reduction.py).
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from textcam_service.core.preprocess import center_crop, normalize, place_in_input
from textcam_service.core.types import Crop, Float32Array, Preprocessing, UInt8Array
from textcam_service.errors import (
    AnimatedImage,
    EmptyImage,
    ImageTooLarge,
    InvalidImage,
    TruncatedImage,
    UnsupportedImage,
)
from textcam_service.imaging.resampling import resample

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_REDUCTIONS = (4, 2)  # 1:8 gains little more, and its tolerance was not measured
# Least number of pixels, along each side, that a reduced image keeps for each pixel of the
# network's input.
_SPARE = 3
# What turns an image of an EXIF orientation upright (EXIF 2.32, 4.6.4 A). Pillow's exif_transpose()
# rewrites the EXIF too, and fails where that is malformed.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
# What Pillow's decoders raise on damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    *(AssertionError, AttributeError, ArithmeticError),
)


@dataclass(frozen=True)
class ImageLimits:
    """Limits of what is decoded.

    Attributes:
        max_bytes: Most bytes of the encoded file.
        max_pixels: Most pixels, width times height.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class DecodedImage:
    """RGB image, upright, perhaps reduced.

    Attributes:
        pixels: height / reduction times width / reduction, rounded up.
        decoder: Name of the decoder: "pillow/JPEG", "pillow/JPEG 1:2" where reduced, "raw" ...
        height: Height of the whole image, in pixels.
        width: Width of the whole image, in pixels.
        reduction: Pixels of the image, along each side, for one of `pixels`.
    """

    pixels: Image.Image
    decoder: str
    height: int
    width: int
    reduction: int = 1


def decode(
    encoded: bytes, limits: ImageLimits, preprocessing: Preprocessing | None = None
) -> DecodedImage:
    """Decode a JPEG, PNG or WebP file to upright RGB.

    CMYK, grey, 16-bit, palette and alpha images become RGB; alpha is laid over white. The server
    gives `preprocessing`. Bank building and evaluation also need the pixels, and do not give it:
    they have the reference that the tolerance of reduction (see above) is measured against. Files
    with a shorter side below six times `preprocessing.resize` give the same pixels either way.

    Args:
        encoded: The file.
        limits: Limits of what is decoded.
        preprocessing: Preparation that follows: a JPEG is then reduced where enough pixels remain.
            None: never reduced.

    Raises:
        InvalidImage: EmptyImage, UnsupportedImage, TruncatedImage or AnimatedImage.
        ImageTooLarge: Over the byte or the pixel limit.
    """
    if not encoded:
        raise EmptyImage("the image has 0 bytes", field="encoded")
    if len(encoded) > limits.max_bytes:
        raise ImageTooLarge(
            f"the image has {len(encoded):,} bytes; at most {limits.max_bytes:,} are allowed, "
            "so send it smaller",
            field="encoded",
        )
    image = _open(encoded)
    _check_header(image, limits)
    try:
        return _load(image, encoded, preprocessing)
    except _DAMAGE as error:
        raise TruncatedImage(
            f"the {image.format} file ends early or is damaged ({error}); send it again whole",
            field="encoded",
        ) from error


def whole_image(encoded: bytes) -> Image.Image:
    """Decode a file that decode() accepted, upright and never reduced."""
    return _load(_open(encoded), encoded, None).pixels


def from_pixels(array: UInt8Array, limits: ImageLimits) -> DecodedImage:
    """Accept raw pixels, (h, w, 3) RGB.

    Raises:
        ImageTooLarge: Over the pixel limit.
    """
    height, width = array.shape[:2]
    _check_pixels(width, height, limits, "pixels")
    return DecodedImage(Image.fromarray(array), "raw", height, width)


def prepare(
    image: Image.Image | DecodedImage, preprocessing: Preprocessing
) -> tuple[Float32Array, Crop]:
    """Resize, crop and normalise: RGB image -> (3, H, W), and the crop in the whole image's pixels.

    Only the crop is resampled, straight from the image, so that a very long image costs
    no more than a square one.
    """
    if isinstance(image, Image.Image):
        image = DecodedImage(image, "", image.height, image.width)
    crop = center_crop(image.height, image.width, preprocessing)
    box = (
        max(crop.left, 0.0) / image.reduction,
        max(crop.top, 0.0) / image.reduction,
        min(crop.left + crop.width, image.width) / image.reduction,
        min(crop.top + crop.height, image.height) / image.reduction,
    )
    left, top, right, bottom = place_in_input(crop, image.height, image.width, preprocessing)
    size = right - left, bottom - top
    resized = resample(image.pixels, size, preprocessing.interpolation, box)
    if size != (preprocessing.width, preprocessing.height):  # "border": there is room beside it
        filled = np.empty((preprocessing.height, preprocessing.width, 3), np.uint8)
        filled[:] = [round(255 * level) for level in preprocessing.mean]
        filled[top:bottom, left:right] = resized
        resized = filled
    return normalize(resized, preprocessing), crop


def _open(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedImage(
            "the bytes are not a JPEG, PNG or WebP image", field="encoded"
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
            f"{limits.max_pixels:,} are allowed, so send it smaller",
            field=field,
        )


def _reduction(image: Image.Image, orientation: int, preprocessing: Preprocessing) -> int:
    """Return the largest reduction of a JPEG that leaves pixels to spare."""
    width, height = image.size
    least = _SPARE * preprocessing.resize
    for reduction in _REDUCTIONS:
        # If the reduction does not divide a side, the last pixel there covers only a part. After
        # the rotation that pixel may come first, and all others would be shifted.
        fits = orientation == 1 or not (width % reduction or height % reduction)
        if fits and min(width, height) >= least * reduction:
            return reduction
    return 1


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 (upright) if there is none, or none is readable."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return int(orientation) if orientation in tuple(_UPRIGHT) else 1


def _load(image: Image.Image, encoded: bytes, preprocessing: Preprocessing | None) -> DecodedImage:
    """Load the pixels of an opened file."""
    width, height = image.size
    decoder = f"pillow/{image.format}"
    orientation = reduction = 1
    if isinstance(image, JpegImageFile):
        orientation = _orientation(image)
        if preprocessing is not None:
            reduction = _reduction(image, orientation, preprocessing)
        # All at once: after each block Pillow waits for the interpreter's lock again.
        image.decodermaxblock = len(encoded)
    if reduction > 1:
        image.draft(None, (width // reduction, height // reduction))
        decoder += f" 1:{reduction}"
    image.load()
    if not isinstance(image, JpegImageFile):  # a PNG's EXIF may come after its pixels
        orientation = _orientation(image)
    if orientation in _SIDEWAYS:
        width, height = height, width
    pixels = _to_rgb(image)
    if orientation != 1:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return DecodedImage(pixels, decoder, height, width, reduction)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # 16-bit grey
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
