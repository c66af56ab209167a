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
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError
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
from textcam_service.imaging.avif import AvifSequence, frame_pixels
from textcam_service.imaging.colours import to_srgb
from textcam_service.imaging.formats import FORMATS, TAKEN, format_name
from textcam_service.imaging.orientation import DAMAGE, SIDEWAYS, UPRIGHT, exif_orientation
from textcam_service.imaging.png import without_long_metadata
from textcam_service.imaging.resampling import resample

_REDUCTIONS = (4, 2)  # 1:8 gains little more, and its tolerance was not measured
# Least number of pixels, along each side, that a reduced image keeps for each pixel of the
# network's input.
_SPARE = 3


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
            Behind it "icc" for colours that a profile converted, "icc ignored" for a profile that
            did not.
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
    encoded: bytes,
    limits: ImageLimits,
    preprocessing: Preprocessing | None = None,
    use_profile: bool = True,
) -> DecodedImage:
    """Decode a JPEG, PNG, WebP or AVIF file to upright sRGB.

    CMYK, grey, 16-bit, palette and alpha images become RGB; alpha is laid over white. The server
    gives `preprocessing`. Bank building and evaluation also need the pixels, and do not give it:
    they have the reference that the tolerance of reduction (see above) is measured against. Files
    with a shorter side below six times `preprocessing.resize` give the same pixels either way.

    Args:
        encoded: The file.
        limits: Limits of what is decoded.
        preprocessing: Preparation that follows: a JPEG is then reduced where enough pixels remain.
            None: never reduced.
        use_profile: Convert colours by the embedded ICC profile; a damaged one is ignored.

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
    _check_header(image, encoded, limits)
    try:
        return _load(image, encoded, preprocessing, use_profile)
    except DAMAGE as error:
        raise TruncatedImage(
            f"the {image.format} file ends early or is damaged ({error}); send it again whole",
            field="encoded",
        ) from error


def whole_image(encoded: bytes, use_profile: bool = True) -> Image.Image:
    """Decode a file that decode() accepted, upright and never reduced."""
    return _load(_open(encoded), encoded, None, use_profile).pixels


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
    if size != (preprocessing.width, preprocessing.height):  # there is room beside it
        filled = np.zeros((preprocessing.height, preprocessing.width, 3), np.uint8)
        if preprocessing.crop_mode == "border":
            filled[:] = [round(255 * level) for level in preprocessing.mean]
        filled[top:bottom, left:right] = resized
        resized = filled
    return normalize(resized, preprocessing), crop


def _open(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(without_long_metadata(encoded)), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unsupported(encoded) from error
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"the image's header names far too many pixels: {error}", field="encoded"
        ) from error
    except DAMAGE as error:
        raise InvalidImage(
            f"the image's header is damaged ({error}); send it again whole", field="encoded"
        ) from error


def _unsupported(encoded: bytes) -> InvalidImage:
    """Name the format of a file that cannot be opened, and the cure."""
    name = format_name(encoded)
    if name is None:
        return UnsupportedImage(f"the bytes are not a {TAKEN} image", field="encoded")
    if name in FORMATS:
        return InvalidImage(f"the {name} file is damaged; send it again whole", field="encoded")
    return UnsupportedImage(
        f"the bytes are {name}, not {TAKEN}: convert the image to one of these, or send its pixels",
        field="encoded",
    )


def _check_header(image: Image.Image, encoded: bytes, limits: ImageLimits) -> None:
    _check_pixels(image.width, image.height, limits, "encoded")
    if image.format == "AVIF":
        _check_frames(encoded, limits)
    try:
        frames = getattr(image, "n_frames", 1)
    except DAMAGE as error:
        raise TruncatedImage(
            f"the file's frames cannot be read ({error}); send it again whole", field="encoded"
        ) from error
    # Some cameras append a preview as a second frame of a JPEG (MPO); the first is the picture.
    if frames > 1 and image.format != "MPO":
        raise AnimatedImage(
            f"the image has {frames} frames; send the one to be explained", field="encoded"
        )


def _check_frames(encoded: bytes, limits: ImageLimits) -> None:
    """Check the frames of an AVIF file, which may be larger than its header tells."""
    try:
        largest, total = frame_pixels(encoded)
    except AvifSequence:
        raise AnimatedImage(
            "the AVIF file is a sequence; send the frame to be explained", field="encoded"
        ) from None
    except (ValueError, IndexError) as error:
        raise TruncatedImage(
            f"the AVIF file is damaged or unusual ({error}); save the image as JPEG or PNG",
            field="encoded",
        ) from error
    # Colours, transparency, a preview and a gain map may all be as large as the image.
    if largest > limits.max_pixels or total > 4 * limits.max_pixels:
        raise ImageTooLarge(
            f"the AVIF file's frames have up to {largest:,} pixels, {total:,} in all; at "
            f"most {limits.max_pixels:,} and four times as many are allowed, so send it smaller",
            field="encoded",
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


def _load(
    image: Image.Image, encoded: bytes, preprocessing: Preprocessing | None, use_profile: bool
) -> DecodedImage:
    """Load the pixels of an opened file."""
    width, height = image.size
    decoder = f"pillow/{image.format}"
    orientation = reduction = 1
    if isinstance(image, JpegImageFile):
        orientation = exif_orientation(image)
        if preprocessing is not None:
            reduction = _reduction(image, orientation, preprocessing)
        # All at once: after each block Pillow waits for the interpreter's lock again.
        image.decodermaxblock = len(encoded)
    if reduction > 1:
        image.draft(None, (width // reduction, height // reduction))
        decoder += f" 1:{reduction}"
    image.load()
    if not isinstance(image, JpegImageFile):  # a PNG's EXIF may come after its pixels
        orientation = exif_orientation(image)
    if orientation in SIDEWAYS:
        width, height = height, width
    pixels, note = to_srgb(image, use_profile)
    if note:
        decoder += f" {note}"
    if orientation != 1:
        pixels = pixels.transpose(UPRIGHT[orientation])
    return DecodedImage(pixels, decoder, height, width, reduction)
