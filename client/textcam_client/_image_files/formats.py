"""Formats of image files: those that servers take, and those that are sent as pixels."""

from __future__ import annotations

import io

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

_HAS_AVIF = "avif" in features.modules and features.check_module("avif")
SERVED = ("JPEG", "PNG", "WEBP", *(("AVIF",) if _HAS_AVIF else ()))
# HEIF and JXL if the caller registered a plugin of Pillow. Formats that run other programs, or hold
# more than a picture, are not opened unasked.
_OPENED = ("GIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "QOI", "HEIF", "JXL")
_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"RIFF")
# Tags of TIFF: a file of a camera's raw data begins with a small preview.
_KIND, _REDUCED = 254, 1
_DNG_VERSION = 50706


def open_unserved(content: bytes) -> Image.Image | None:
    """Open a file of a format that servers do not take, but Pillow knows.

    Returns:
        None for a format that servers take, and for what cannot be opened here.
    """
    if content.startswith(_BEGINNINGS):
        return None
    Image.init()
    known = [name for name in _OPENED if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(content), formats=known)
    except UnidentifiedImageError:
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (
        image.tag_v2.get(_KIND) == _REDUCED or _DNG_VERSION in image.tag_v2
    ):
        return None
    return image
