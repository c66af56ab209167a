"""COCO's run-length encoding of masks, uncompressed and compressed.

Pixels are counted down the columns, from the left. The counts alternate between background and
mask, background first, so the first is 0 if the mask includes the first pixel. The compressed form
is a string (cocodataset/cocoapi, maskApi). From the fourth count on, the count two before is
subtracted. Then 5 bits make a character, lowest bits first, with a sixth bit if more follow, and 48
is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from textcam_client._arrays import BoolArray
from textcam_client.masks.connected_components import checked_mask

_FIRST, _BITS = 48, 5  # code of the character for 0; bits of a number per character
_MORE, _SIGN = 1 << _BITS, 1 << (_BITS - 1)


class Rle(TypedDict):
    """COCO's run-length encoding in its JSON form.

    Attributes:
        size: [height, width], pixels.
        counts: Run lengths, as a string or as a list.
    """

    size: list[int]
    counts: str | list[int]


def encode_rle(mask: NDArray[Any], *, compressed: bool = True) -> Rle:
    """Encode a mask; pycocotools decodes both forms, the list through frPyObjects.

    Args:
        mask: (h, w) bool.
        compressed: Return the counts as a string; otherwise as a list.

    Raises:
        ValueError: `mask` is not a mask.
    """
    mask = checked_mask(mask)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0] if not flat[0] else [0, 0], changes, [flat.size]))
    counts = np.diff(edges).tolist()
    size = [int(side) for side in mask.shape]
    return Rle(size=size, counts=_packed(counts) if compressed else counts)


def decode_rle(rle: Rle | Mapping[str, Any]) -> BoolArray:
    """Decode a mask from either form.

    Args:
        rle: "size": [height, width]; "counts": a string, bytes, or a list.

    Returns:
        (h, w).

    Raises:
        ValueError: The counts are damaged, or do not fit the size.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        given = rle["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'an RLE is {{"size": [height, width], "counts": ...}}, not {rle!r}'
        ) from error
    if isinstance(given, (str, bytes)):
        counts = _unpacked(given.encode() if isinstance(given, str) else given)
    else:
        counts = [int(count) for count in given]
    if min(height, width, *counts) < 0 or sum(counts) != height * width:
        raise ValueError(
            f"the counts add up to {sum(counts)} pixels, and the size is {height} x {width} = "
            f"{height * width}; they are damaged, or belong to another image"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.asarray(np.repeat(values, counts).reshape((width, height)).T)


def _packed(counts: Sequence[int]) -> str:
    characters = bytearray()
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = rest & (_MORE - 1)
            rest >>= _BITS
            # The last character's top bit is the sign.
            more = rest != (-1 if bits & _SIGN else 0)
            characters.append(bits + (_MORE if more else 0) + _FIRST)
    return characters.decode("ascii")


def _unpacked(characters: bytes) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in characters:
        bits = character - _FIRST
        if not 0 <= bits < 2 * _MORE:
            raise ValueError(f"{chr(character)!r} does not occur in COCO's compressed counts")
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError(
            "the compressed counts end in the middle of a number; pass the whole string"
        )
    return counts
