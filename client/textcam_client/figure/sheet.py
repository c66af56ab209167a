"""Layout of figures: measures, fonts, panels, paragraphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from textcam_client._heatmaps.colormap import blend

Colour: TypeAlias = tuple[int, int, int]

PAPER: Colour = (250, 249, 246)
INK: Colour = (28, 28, 32)
QUIET: Colour = (112, 112, 120)
LINE: Colour = (222, 220, 214)
FOR: Colour = (22, 120, 72)
AGAINST: Colour = (186, 44, 44)
OPACITY = 0.8


@dataclass(frozen=True)
class Sheet:
    """Measures in pixels, relative to the tile's width, and the font."""

    tile: int
    typeface: str | os.PathLike[str] | None = None

    def px(self, parts: float) -> int:
        """Convert hundredths of a tile's width to whole pixels."""
        return max(1, round(self.tile * parts / 100))

    def font(self, parts: float) -> Any:
        """Load the font in a size; by default Pillow's own, which needs no file."""
        if self.typeface is None:
            return ImageFont.load_default(size=self.px(parts))
        return ImageFont.truetype(os.fspath(self.typeface), self.px(parts))

    @property
    def margin(self) -> int:
        """Space around the figure."""
        return self.px(10)

    @property
    def gap(self) -> int:
        """Space between tiles."""
        return self.px(6)


@dataclass(frozen=True)
class Tile:
    """One panel: a caption, numbers, and a picture below them.

    Attributes:
        caption: Title.
        number: Share of the explained number.
        colour: Colour of the number.
        picture: Picture below the texts.
        chance: Probability, left of the number.
        kind: Small text below the caption.
        note: Small text below the number.
    """

    caption: str
    number: str
    colour: Colour
    picture: Image.Image
    chance: str = ""
    kind: str = ""
    note: str = ""


def row(sheet: Sheet, tiles: Sequence[Tile], width: int, height: int) -> Image.Image:
    """Draw tiles in a row, with pictures at most `height` pixels high."""
    caption_height = sheet.px(12)
    noted = any(tile.kind or tile.note for tile in tiles)
    top = caption_height + (sheet.px(6.5) if noted else 0)
    drawn = Image.new("RGB", (width, top + height), PAPER)
    draw = ImageDraw.Draw(drawn)
    for place, tile in enumerate(tiles):
        left = place * (sheet.tile + sheet.gap)
        _caption(sheet, draw, tile, left, caption_height - sheet.px(4))
        small = sheet.font(5.2)
        draw.text((left, top - sheet.px(4)), tile.kind, QUIET, small, anchor="ls")
        draw.text((left + sheet.tile, top - sheet.px(4)), tile.note, QUIET, small, anchor="rs")
        drawn.paste(tile.picture, (left + (sheet.tile - tile.picture.width) // 2, top))
    return drawn


def _caption(sheet: Sheet, draw: ImageDraw.ImageDraw, tile: Tile, left: int, baseline: int) -> None:
    font = sheet.font(6.6)
    right: float = left + sheet.tile
    for text, colour in ((tile.number, tile.colour), (tile.chance, INK)):
        if text:
            draw.text((right, baseline), text, colour, font, anchor="rs")
            right -= draw.textlength(text, font) + sheet.px(4)
    # A long caption gets a smaller font before it is cut.
    sizes = [sheet.font(parts) for parts in (6.6, 6.0, 5.4, 4.8)]
    fitting = [f for f in sizes if draw.textlength(tile.caption, f) <= right - left]
    font = (fitting or sizes[-1:])[0]
    caption = shortened(draw, tile.caption, font, right - left)
    draw.text((left, baseline), caption, INK, font, anchor="ls")


def heat_bar(sheet: Sheet, paper: Image.Image, middle: int, font: Any) -> int:
    """Draw the scale of heat at the left, and return its width."""
    draw = ImageDraw.Draw(paper)
    draw.text((0, middle), "no support", QUIET, font, anchor="lm")
    left = int(draw.textlength("no support", font)) + sheet.px(3)
    length, height = sheet.px(40), sheet.px(4)
    heat = np.repeat(np.linspace(0, 1, length, dtype=np.float32)[None], height, axis=0)
    ground = np.full((height, length, 3), 225, np.uint8)
    paper.paste(Image.fromarray(blend(ground, heat, OPACITY)), (left, middle - height // 2))
    right = left + length + sheet.px(3)
    draw.text((right, middle), "strongest", QUIET, font, anchor="lm")
    return right + int(draw.textlength("strongest", font))


def paragraph(sheet: Sheet, text: str, width: int, parts: float, colour: Colour) -> Image.Image:
    """Draw text in lines of at most `width` pixels; `parts` is the font size in hundredths."""
    font = sheet.font(parts)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines = wrapped(measure, text, font, width)
    line_height = sheet.px(parts * 1.4)
    paper = Image.new("RGB", (width, max(1, len(lines) * line_height)), PAPER)
    draw = ImageDraw.Draw(paper)
    for place, line in enumerate(lines):
        draw.text((0, place * line_height), line, colour, font)
    return paper


def stacked(
    parts: Sequence[Image.Image], sheet: Sheet, margin: int | None = None, gap: int | None = None
) -> Image.Image:
    """Draw pictures one above the other."""
    margin = sheet.margin if margin is None else margin
    gap = sheet.margin if gap is None else gap
    width = max(part.width for part in parts) + 2 * margin
    height = sum(part.height for part in parts) + gap * (len(parts) - 1) + 2 * margin
    paper = Image.new("RGB", (width, height), PAPER)
    top = margin
    for part in parts:
        paper.paste(part, (margin, top))
        top += part.height + gap
    return paper


def shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, room: float) -> str:
    """Cut the text to `room` pixels, with dots at its end."""
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text.rstrip() + "...", font) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> list[str]:
    """Break the text into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
