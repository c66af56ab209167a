"""Metadata of PNG files: what is long there, Pillow would refuse with the whole file."""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
_EXIF = b"Raw profile type exif\0"  # ImageMagick's and exiv2's text, which has the orientation
# Most bytes that a text or a profile may have when unpacked; Pillow takes no more.
_MAX_UNPACKED = 2**20


def without_long_metadata(encoded: bytes) -> bytes:
    """Return a PNG without its texts, and without a profile of more than 1 MiB unpacked.

    The pixels do not depend on them, and nothing longer is unpacked. The text that holds EXIF
    stays. A file of another format is returned as it is, and so is the rest of a file that ends
    early.
    """
    if not encoded.startswith(_SIGNATURE):
        return encoded
    content = memoryview(encoded)
    kept, copied, place = [], 0, len(_SIGNATURE)
    seen: set[bytes] = set()
    while place + 12 <= len(encoded):  # a chunk: length, kind, content, checksum
        kind = encoded[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if (kind in _TEXTS or kind == _PROFILE) and end <= len(encoded):
            if kind in seen or _is_dropped(kind, encoded[place + 8 : end - 4]):
                kept.append(content[copied:place])
                copied = end
            else:
                seen.add(kind)
        place = end
    return b"".join([*kept, content[copied:]]) if kept else encoded


def _is_dropped(kind: bytes, chunk: bytes) -> bool:
    """Return True for a text other than EXIF, and for what is long or damaged when unpacked."""
    if kind != _PROFILE and (kind == b"iTXt" or not chunk.startswith(_EXIF)):
        return True
    if kind == b"tEXt":
        return len(chunk) > _MAX_UNPACKED
    method = chunk.find(b"\0") + 1  # 0: deflate
    if method == 0 or chunk[method : method + 1] != b"\0":
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(chunk[method + 1 :], _MAX_UNPACKED)
    except zlib.error:
        return True
    return bool(unpacking.unconsumed_tail)
