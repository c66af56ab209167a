"""Formats of image files: those that are decoded, and the names of others."""

from __future__ import annotations

from PIL import features

_HAS_AVIF = "avif" in features.modules and features.check_module("avif")
FORMATS = ("JPEG", "PNG", "WEBP", *(("AVIF",) if _HAS_AVIF else ()))
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", *((".avif",) if _HAS_AVIF else ())})
TAKEN = "JPEG, PNG, WebP or AVIF" if _HAS_AVIF else "JPEG, PNG or WebP"
"""The decoded formats in words."""

# First bytes of files.
_BEGINNINGS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"II\xbc": "JPEG XR",
    b"II*\0": "TIFF or camera raw",
    b"MM\0*": "TIFF or camera raw",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"8BPS": "Photoshop",
    b"\0\0\x01\0": "icon",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    **{b"P%d%c" % (kind, blank): "netpbm" for kind in range(1, 7) for blank in b" \n\r\t"},
}
# Brands of ISO base media files.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "camera raw",
    **dict.fromkeys((b"isom", b"mp41", b"mp42", b"qt  "), "video"),
}
_MARKUP = {b"<svg": "SVG", b"<html": "HTML", b"<!doctype html": "HTML"}


def format_name(encoded: bytes) -> str | None:
    """Name the format of a file by its first bytes; None if it is not known."""
    if encoded[4:8] == b"ftyp":
        size = min(int.from_bytes(encoded[:4], "big"), 256)
        brands = [encoded[8:12], *(encoded[at : at + 4] for at in range(16, size, 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    for beginning, name in _BEGINNINGS.items():
        if encoded.startswith(beginning):
            return name
    start = encoded[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"<?xml") and b"<svg" in start:
        return "SVG"
    return next((name for mark, name in _MARKUP.items() if start.startswith(mark)), None)
