"""ICC profiles made by hand, and the sRGB of their colours by the definitions' arithmetic."""

from __future__ import annotations

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
# Primaries as XYZ under D50, and the exponent of the curve.
WIDE = {
    "Adobe RGB": (
        ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
        2.2,
    ),
    "ProPhoto": (((0.7977, 0.2880, 0), (0.1352, 0.7119, 0), (0.0313, 0.0001, 0.8249)), 1.8),
}
# IEC 61966-2-1, adapted to D50 by Bradford's method; columns are the primaries.
_SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169],
     [0.0139322, 0.0971045, 0.7141733]]
)  # fmt: skip


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def curve(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def place(xyz: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*xyz)


def profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Put a profile of version 2.4 together (ICC.1:2001-04)."""
    named = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"-\0" + bytes(78)
    tags = {b"desc": named, b"cprt": b"text\0\0\0\0-\0\0\0", b"wtpt": place(D50), **tags}
    table, body, begin = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", begin + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", begin + len(body), b"none", 0x02400000, kind, space, connection
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def of_primaries(primaries: tuple[tuple[float, ...], ...], exponent: float) -> bytes:
    tags = {b"%cXYZ" % name: place(xyz) for name, xyz in zip(b"rgb", primaries, strict=True)}
    tags |= {b"%cTRC" % name: curve(exponent) for name in b"rgb"}
    return profile(b"RGB ", b"XYZ ", b"mntr", tags)


def of_grey(exponent: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": curve(exponent)})


def of_inks(corners: np.ndarray, padding: int = 0, points: int = 2) -> bytes:
    """Return a press's profile.

    Args:
        corners: (2, 2, 2, 2, 3) uint8: Lab of each combination of full inks.
        padding: Bytes of a tag that nothing reads.
        points: Points of the table along each side, as the profile claims.
    """
    table = b"mft1\0\0\0\0" + bytes((4, 3, points, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += bytes(range(256)) * 4 + corners.tobytes() + bytes(range(256)) * 3
    tags = {b"A2B0": table} | ({b"pad ": b"data" + bytes(padding)} if padding else {})
    return profile(b"CMYK", b"Lab ", b"prtr", tags)


def _encoded(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


def srgb_of_primaries(colours: np.ndarray, name: str) -> np.ndarray:
    """Return the sRGB levels of 8-bit colours of a wide space."""
    primaries, exponent = WIDE[name]
    xyz = (colours / 255) ** exponent @ np.array(primaries)
    return _encoded(xyz @ np.linalg.inv(_SRGB).T)


def srgb_of_grey(levels: np.ndarray, exponent: float) -> np.ndarray:
    return _encoded((levels / 255) ** exponent)


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """Return the sRGB levels of Lab colours as an 8-bit table holds them."""
    lab = lab.astype(float)
    lightness, a, b = lab[..., 0] * 100 / 255, lab[..., 1] - 128, lab[..., 2] - 128
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return _encoded(xyz @ np.linalg.inv(_SRGB).T)
