"""Orientation of images, by their EXIF alone."""

from __future__ import annotations

import struct
import zlib

from PIL import ExifTags, Image

# What turns an image of an EXIF orientation upright (EXIF 2.32, 4.6.4 A). Pillow's exif_transpose()
# rewrites the EXIF too, and fails where that is malformed.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
# What Pillow's decoders raise on damaged files.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error),
    *(AssertionError, AttributeError, ArithmeticError, RuntimeError),
)
# Where Pillow keeps what it reads EXIF from; it looks for an orientation in XMP too.
_EXIF = ("exif", "Raw profile type exif")


def exif_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 (upright) if there is none, or none is readable.

    An orientation in XMP counts for nothing: browsers, OpenCV, libvips and torchvision go by EXIF.
    Pillow's getexif() falls back to it.
    """
    bare = Image.Image()
    bare.info = {key: image.info[key] for key in _EXIF if key in image.info}
    try:
        orientation = bare.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return int(orientation) if orientation in tuple(UPRIGHT) else 1
