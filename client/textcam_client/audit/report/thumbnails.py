"""Thumbnails of the page: small WebP images, made to fit into the room that they have."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

BLOCK = 256
"""Thumbnails in one block of the page."""

# (side, quality), the best first.
_STEPS = (96, 60), (96, 45), (96, 30), (72, 40), (64, 30), (48, 30)
_SAMPLES = 200
_SAFETY = 0.97


@dataclass(frozen=True)
class FittedThumbnails:
    """Thumbnails as the page holds them.

    Attributes:
        images: WebP bytes by place on the page; b"": none.
        note: Sentence about what was done to make them fit; "": nothing.
    """

    images: Sequence[bytes]
    note: str = ""

    def blocks(self) -> Iterator[str]:
        """Yield base64 of BLOCK images each, one a line."""
        for start in range(0, len(self.images), BLOCK):
            block = self.images[start : start + BLOCK]
            yield "\n".join(base64.b64encode(own).decode("ascii") for own in block)

    def url(self, place: int) -> str:
        """Return the image as a data URL; "": there is none."""
        own = self.images[place]
        return f"data:image/webp;base64,{base64.b64encode(own).decode('ascii')}" if own else ""


def fit_thumbnails(
    images: Sequence[bytes], budget: int, first: Sequence[int] = ()
) -> FittedThumbnails:
    """Return thumbnails that take at most `budget` characters in the page.

    Images are made smaller step by step, all alike. Where the smallest do not fit, the places of
    `first` keep theirs, then the others in order.

    Args:
        images: WebP bytes by place; b"": none.
        budget: Characters of base64.
        first: Places to show before others.
    """
    if _size(images) <= budget:
        return FittedThumbnails(images)
    present = [own for own in images if own]
    samples = present[:: max(len(present) // _SAMPLES, 1)]
    for side, quality in _STEPS:
        expected = _size([_smaller(own, side, quality) for own in samples]) / len(samples)
        if expected * len(present) > _SAFETY * budget:
            continue
        made = [_smaller(own, side, quality) if own else b"" for own in images]
        if _size(made) <= budget:
            note = f"Thumbnails have {side} pixels at quality {quality}, so that the page stays"
            return FittedThumbnails(made, f"{note} small.")
    return _some([_smaller(own, *_STEPS[-1]) if own else b"" for own in images], budget, first)


def _some(images: Sequence[bytes], budget: int, first: Sequence[int]) -> FittedThumbnails:
    kept = [b""] * len(images)
    room = budget
    for place in dict.fromkeys((*first, *range(len(images)))):
        cost = _characters(images[place])
        if images[place] and cost <= room:
            kept[place] = images[place]
            room -= cost
    shown, known = sum(map(bool, kept)), sum(map(bool, images))
    note = f"{shown:,} of {known:,} images have a thumbnail, so that the page stays small."
    return FittedThumbnails(kept, note)


def _size(images: Sequence[bytes]) -> int:
    return sum(map(_characters, images))


def _characters(image: bytes) -> int:
    """Return the length of an image's line in the page."""
    return (len(image) + 2) // 3 * 4 + 1


def _smaller(image: bytes, side: int, quality: int) -> bytes:
    with Image.open(io.BytesIO(image)) as opened:
        opened.thumbnail((side, side))
        written = io.BytesIO()
        opened.convert("RGB").save(written, "WEBP", quality=quality, method=4)
    return written.getvalue()
