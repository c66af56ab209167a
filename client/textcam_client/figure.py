"""One picture per explained photograph, for people: where, and what, and how much."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from textcam_client.colormap import blend
from textcam_client.images import ImageInput, ImageSource
from textcam_client.types import Explanation, SaliencyGroup, TargetExplanation

Colour: TypeAlias = tuple[int, int, int]

_PAPER: Colour = (250, 249, 246)
_INK: Colour = (28, 28, 32)
_QUIET: Colour = (112, 112, 120)
_LINE: Colour = (222, 220, 214)
_FOR: Colour = (22, 120, 72)
_AGAINST: Colour = (186, 44, 44)
_OPACITY = 0.8


@dataclass(frozen=True)
class _Sheet:
    """Measures in pixels, all multiples of the tile's width, and the font's file."""

    tile: int
    typeface: str | os.PathLike[str] | None = None

    def px(self, parts: float) -> int:
        """Hundredths of a tile in whole pixels."""
        return max(1, round(self.tile * parts / 100))

    def font(self, parts: float) -> Any:
        """Pillow's own font, so that no font files are needed, unless one is given."""
        if self.typeface is None:
            return ImageFont.load_default(size=self.px(parts))
        return ImageFont.truetype(os.fspath(self.typeface), self.px(parts))

    @property
    def margin(self) -> int:
        """Around everything."""
        return self.px(10)

    @property
    def gap(self) -> int:
        """Between tiles."""
        return self.px(6)


@dataclass(frozen=True)
class _Tile:
    """One panel: a picture under its caption and its number."""

    caption: str
    number: str
    colour: Colour
    picture: Image.Image


def draw_figure(
    explanation: Explanation,
    *,
    image: ImageInput | None = None,
    tile_width: int = 320,
    columns: int | None = None,
    font: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the photograph, where the model looked, and a panel per phrase, by evidence.

    All maps of a target have one scale, its strongest support, so they can be compared.

    Args:
        explanation: An answer with maps; each of its targets gets a section.
        image: What to draw on; default: the image that was explained.
        tile_width: Width of a panel, pixels; everything else follows from it.
        columns: Panels per row; default: as many as give full rows, 3 to 5.
        font: A TrueType or OpenType file; default: Pillow's own font, which has ASCII letters
            only and draws others, as in "Ünïcödé", as crossed boxes.

    Returns:
        An RGB image.

    Raises:
        MapsDeclined: The answer was requested without maps.
        PictureUnavailable: The image's file is gone or has changed.
        OSError: The font cannot be read.
        ValueError: The answer explains no target, or an option is out of range.
    """
    if not explanation.explanations:
        raise ValueError("the answer explains no target")
    if tile_width < 1 or (columns is not None and columns < 1):
        raise ValueError(
            f"tile_width is at least 1 pixel and columns is at least 1, "
            f"not tile_width={tile_width}, columns={columns}"
        )
    sheet = _Sheet(tile_width, font)
    photo = explanation.explanations[0].picture() if image is None else ImageSource(image).picture()
    # Tall photographs get narrower panels' worth of picture, never taller panels.
    photo.thumbnail((tile_width, tile_width), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if photo.width < tile_width and photo.height < tile_width:
        scale = tile_width / max(photo.size)
        photo = photo.resize(
            (round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC
        )
    sections = [_section(sheet, target, photo, columns) for target in explanation.explanations]
    return _stacked(sections, sheet)


def _section(
    sheet: _Sheet, target: TargetExplanation, photo: Image.Image, columns: int | None
) -> Image.Image:
    tiles = _tiles(target, photo)
    columns = columns or _columns(len(tiles))
    width = columns * sheet.tile + (columns - 1) * sheet.gap
    parts = [
        _header(sheet, target, width),
        *(
            _row(sheet, tiles[start : start + columns], width, photo.height)
            for start in range(0, len(tiles), columns)
        ),
        _footer(sheet, target, width),
    ]
    return _stacked(parts, sheet, margin=0, gap=sheet.px(5))


def _tiles(target: TargetExplanation, photo: Image.Image) -> list[_Tile]:
    size = (photo.height, photo.width)
    pixels = np.asarray(photo)

    def drawn(heat: Any) -> Image.Image:
        return Image.fromarray(blend(pixels, heat, _OPACITY))

    tiles = [
        _Tile("photograph", "", _INK, photo),
        _Tile(
            "where it looked",
            _said(target, _evidence(target)),
            _INK,
            drawn(target.heatmap(size)),
        ),
    ]
    return tiles + [
        _group_tile(target, group, drawn(group.heatmap(size)))
        for group in (*_by_evidence(target.groups), target.rest)
        if group.saliency_map is not None
    ]


def _by_evidence(groups: Sequence[SaliencyGroup]) -> list[SaliencyGroup]:
    return sorted(groups, key=lambda group: -group.evidence)


def _group_tile(target: TargetExplanation, group: SaliencyGroup, picture: Image.Image) -> _Tile:
    number = _said(target, group.evidence)
    if group.phrase is None:
        return _Tile("all the rest", number, _QUIET, picture)
    colour = _FOR if group.evidence >= 0 else _AGAINST
    return _Tile(group.phrase.text, number, colour, picture)


def _parts(target: TargetExplanation) -> list[float]:
    return [*(phrase.evidence for phrase in target.phrases), target.rest.evidence]


def _evidence(target: TargetExplanation) -> float:
    return sum(_parts(target))


def _said(target: TargetExplanation, evidence: float) -> str:
    """An amount of the logit; else a share of all evidence, for and against."""
    if target.in_logit_units:
        return _number(evidence, "+")
    # Rounded first, and 0.0 added: a share that rounds to nothing has no minus.
    return f"{round(evidence / (sum(map(abs, _parts(target))) or 1.0), 2) + 0.0:+.0%}"


def _number(amount: float, sign: Literal["", "+"] = "") -> str:
    return f"{round(amount, 1) + 0.0:{sign}.1f}"


def _explained(target: TargetExplanation) -> str:
    """What the evidence adds up to."""
    return "logit" if target.against is None else "difference of logits"


def _columns(tiles: int) -> int:
    """The number from 3 to 5 that leaves the fewest holes; the wider on a tie."""
    return min((4, 5, 3), key=lambda columns: (-tiles % columns, abs(columns - 4)))


def _row(sheet: _Sheet, tiles: Sequence[_Tile], width: int, height: int) -> Image.Image:
    caption_height = sheet.px(12)
    row = Image.new("RGB", (width, caption_height + height), _PAPER)
    draw = ImageDraw.Draw(row)
    font = sheet.font(6.6)
    for place, tile in enumerate(tiles):
        left = place * (sheet.tile + sheet.gap)
        baseline = caption_height - sheet.px(4)
        number_width = draw.textlength(tile.number, font)
        draw.text((left + sheet.tile, baseline), tile.number, tile.colour, font, anchor="rs")
        room = sheet.tile - number_width - sheet.px(4)
        draw.text(
            (left, baseline), _shortened(draw, tile.caption, font, room), _INK, font, anchor="ls"
        )
        row.paste(tile.picture, (left + (sheet.tile - tile.picture.width) // 2, caption_height))
    return row


def _header(sheet: _Sheet, target: TargetExplanation, width: int) -> Image.Image:
    name = target.target.class_name
    if target.against is not None:
        name = f"{name} rather than {target.against.class_name}"
    header = Image.new("RGB", (width, sheet.px(17)), _PAPER)
    draw = ImageDraw.Draw(header)
    large, small = sheet.font(11), sheet.font(7)
    baseline = sheet.px(11)
    chance = f"{target.target.probability:.1%}"
    chance_width = draw.textlength(chance, large)
    draw.text((width, baseline), chance, _INK, large, anchor="rs")
    label = f"{_explained(target)} {_number(target.logit)}"
    label_right = width - chance_width - sheet.px(5)
    draw.text((label_right, baseline), label, _QUIET, small, anchor="rs")
    room = label_right - draw.textlength(label, small) - sheet.px(6)
    draw.text((0, baseline), _shortened(draw, name, large, room), _INK, large, anchor="ls")
    bar_top = header.height - sheet.px(1.6)
    draw.rectangle((0, bar_top, width, header.height), _LINE)
    draw.rectangle((0, bar_top, width * target.target.probability, header.height), _INK)
    return header


def _footer(sheet: _Sheet, target: TargetExplanation, width: int) -> Image.Image:
    body, small = sheet.font(7.2), sheet.font(5.6)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines = _wrapped(measure, target.sentence, body, width)
    line_height = sheet.px(10)
    text_height = len(lines) * line_height
    footer = Image.new("RGB", (width, text_height + sheet.px(11)), _PAPER)
    draw = ImageDraw.Draw(footer)
    for number, line in enumerate(lines):
        draw.text((0, number * line_height), line, _INK, body)
    middle = text_height + sheet.px(6)
    legend_width = _legend(sheet, footer, middle, small)
    sums = _shortened(draw, _sums(target), small, width - legend_width - sheet.px(8))
    draw.text((width, middle), sums, _QUIET, small, anchor="rm")
    return footer


def _legend(sheet: _Sheet, footer: Image.Image, middle: int, font: Any) -> int:
    """The scale of the heat; returns its width."""
    draw = ImageDraw.Draw(footer)
    draw.text((0, middle), "no support", _QUIET, font, anchor="lm")
    left = int(draw.textlength("no support", font)) + sheet.px(3)
    length, height = sheet.px(40), sheet.px(4)
    heat = np.repeat(np.linspace(0, 1, length, dtype=np.float32)[None], height, axis=0)
    paper = np.full((height, length, 3), 225, np.uint8)
    footer.paste(Image.fromarray(blend(paper, heat, _OPACITY)), (left, middle - height // 2))
    right = left + length + sheet.px(3)
    draw.text((right, middle), "strongest", _QUIET, font, anchor="lm")
    return right + int(draw.textlength("strongest", font))


def _sums(target: TargetExplanation) -> str:
    phrases = _said(target, _evidence(target) - target.rest.evidence)
    sums = f"phrases {phrases}   rest {_said(target, target.rest.evidence)}   "
    whole = f"{_explained(target)} {_number(target.logit)}"
    if not target.in_logit_units:
        return f"{sums}of the method's evidence, not of the {whole}"
    gap = f"gap {target.gap:+.1f}   " if f"{abs(target.gap):.1f}" != "0.0" else ""
    return f"{sums}bias {_number(target.bias, '+')}   {gap}= {whole}"


def _stacked(
    parts: Sequence[Image.Image], sheet: _Sheet, margin: int | None = None, gap: int | None = None
) -> Image.Image:
    margin = sheet.margin if margin is None else margin
    gap = sheet.margin if gap is None else gap
    width = max(part.width for part in parts) + 2 * margin
    height = sum(part.height for part in parts) + gap * (len(parts) - 1) + 2 * margin
    sheet_image = Image.new("RGB", (width, height), _PAPER)
    top = margin
    for part in parts:
        sheet_image.paste(part, (margin, top))
        top += part.height + gap
    return sheet_image


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, room: float) -> str:
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text.rstrip() + "...", font) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
