"""Orientation of images, by their EXIF alone."""

from __future__ import annotations

import struct
import zlib

from PIL import ExifTags, Image

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
# Errors that Pillow raises on damaged files and, two of them, on closed images.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    *(AssertionError, AttributeError, ArithmeticError, RuntimeError, Image.DecompressionBombError),
)
# Where Pillow keeps EXIF and XMP of a file.
_EXIF = ("exif", "Raw profile type exif")
_XMP = ("xmp", "XML:com.adobe.xmp")


def upright_step(image: Image.Image) -> Image.Transpose | None:
    """Return the step that turns the image upright; None without a readable EXIF orientation.

    As in the server, an orientation in XMP counts for nothing. Pillow's getexif() falls back to it.
    """
    source: Image.Image = image
    if any(key in image.info for key in _XMP):
        source = Image.Image()
        source.info = {key: image.info[key] for key in _EXIF if key in image.info}
    try:
        return _UPRIGHT.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGE:
        return None
