"""Colours of image files, taken to sRGB as the server does: the pictures have its colours."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

CONVERTED = "icc"
IGNORED = "icc ignored"
# Most bytes of a profile; those of presses have up to 3 MiB.
_MAX_PROFILE = 4 * 2**20
_MAX_TAGS = 100  # LittleCMS reads no more
_REMEMBERED = 16  # profiles with their transforms kept
_HEADER = 128  # bytes (ICC.1:2022, 7.2)
_KINDS = (b"scnr", b"mntr", b"prtr", b"spac")
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_GREY = ("1", "L", "LA")
# Most levels by which a profile of sRGB differs from another: in the rounding of its tables.
_ROUNDING = 1


@dataclass(frozen=True)
class _Profile:
    """A usable profile: the mode of its pixels, and their way to sRGB; None if they are sRGB."""

    mode: str
    transform: ImageCms.ImageCmsTransform | None


def to_srgb(image: Image.Image, use_profile: bool = True) -> tuple[Image.Image, str]:
    """Convert an image of any mode to sRGB, transparency laid over white.

    Args:
        image: A loaded image.
        use_profile: Convert the colours by the embedded profile, if there is one.

    Returns:
        The RGB image, and CONVERTED, or IGNORED for a profile that is damaged, not of the image's
        colour space or not to be used. "" if there is no profile, or it is sRGB's.
    """
    embedded = image.info.get("icc_profile")
    profile = _read(embedded) if embedded and use_profile else None
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8))
    layers = image.convert("RGBA") if image.has_transparency_data else None
    transform = profile.transform if profile else None
    note = IGNORED if embedded and (transform or not profile) else ""
    if profile and transform and (pixels := _of_mode(image, layers, profile.mode)):
        note, image = CONVERTED, transform.apply(pixels)
        if layers:
            image.putalpha(layers.getchannel("A"))
            layers = image
    if layers:
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image if image.mode == "RGB" else image.convert("RGB"), note


def _of_mode(image: Image.Image, layers: Image.Image | None, mode: str) -> Image.Image | None:
    """Return the pixels, opaque, in a profile's mode; None if they are of another colour space.

    Profiles of RGB are common in grey images too, and tell how light a grey is.
    """
    if image.mode == mode:
        return image
    if mode == "L":
        return image.convert("L") if image.mode in _GREY else None
    if mode == "RGB" and image.mode != "CMYK":
        return (layers or image).convert("RGB")
    return None


@lru_cache(_REMEMBERED)
def _read(content: bytes) -> _Profile | None:
    """Read a profile; None if it is damaged or of no use."""
    mode = _MODES.get(content[16:20])
    try:
        if mode is None or content[12:16] not in _KINDS or not _is_sound(content):
            return None
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        return _Profile(mode, None if _is_srgb(transform, mode) else transform)
    # ImportError: Pillow was built without LittleCMS.
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, IndexError, ImportError):
        return None


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return True if a transform changes no colour but by rounding."""
    if mode == "CMYK":
        return False
    steps = np.arange(0, 256, 17).astype(np.uint8)  # from black to white
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3)
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    colours = grid if mode == "RGB" else ramp
    given = Image.fromarray(colours).convert(mode)
    moved = np.asarray(transform.apply(given), int) - colours
    return bool(np.abs(moved).max() <= _ROUNDING)


def _is_sound(content: bytes) -> bool:
    """Return True for a profile whose tables are there: LittleCMS reserves what they claim first.

    Tables of a few bytes may claim 500 MB. Floating-point elements ("mpet") are not checked, and no
    profile of photographs needs them.
    """
    if not _HEADER < len(content) <= _MAX_PROFILE:
        return False
    whole, count = memoryview(content), _number(content, _HEADER)
    if count > _MAX_TAGS:
        return False
    for entry in range(_HEADER + 4, _HEADER + 4 + 12 * count, 12):
        start, size = _number(whole, entry + 4), _number(whole, entry + 8)
        tag = whole[start : start + size]
        kind, claimed = bytes(tag[:4]), 0
        if kind in (b"mft1", b"mft2"):
            inputs, outputs, points = tag[8:11]
            claimed = outputs * points**inputs * (2 if kind == b"mft2" else 1)
        elif kind in (b"mAB ", b"mBA ") and (table := _number(tag, 24)):
            inputs, outputs = tag[8:10]
            claimed = outputs * math.prod(tag[table : table + inputs]) * tag[table + 16]
        if kind == b"mpet" or claimed > len(tag):
            return False
    return True


def _number(content: bytes | memoryview, place: int) -> int:
    if len(content) < place + 4:
        raise ValueError("a profile ends early")
    return int.from_bytes(content[place : place + 4], "big")
