"""One picture per explained photograph, for people: where, and what, and how much."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from textcam_client._arrays import Float32Array
from textcam_client._heatmaps.colormap import blend, spotlight
from textcam_client._heatmaps.geometry import Crop, inside
from textcam_client.figure import wording
from textcam_client.figure.sheet import (
    AGAINST,
    FOR,
    INK,
    LINE,
    OPACITY,
    PAPER,
    QUIET,
    Sheet,
    Tile,
    heat_bar,
    paragraph,
    row,
    shortened,
    stacked,
)
from textcam_client.images import ImageInput, ImageSource
from textcam_client.result import ExplainResult
from textcam_client.types import Explanation, SaliencyGroup


def draw_figure(
    result: ExplainResult,
    *,
    image: ImageInput | None = None,
    tile_width: int = 320,
    columns: int | None = None,
    font: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the photograph, where the model looked, and a panel per phrase.

    The panel of a phrase shows where, of where the model looked, the network sees it more than the
    other phrases (SaliencyGroup.relative_heatmap times the root of the target's heatmap), on a
    scale of its own: it says where, not how much, and not where in the image a part is. "Where it
    looked" and "all the rest" have one scale, the target's strongest support; so have the phrases'
    panels of an answer without relative maps, which show the groups' own maps. What the network
    did not see is dimmed. Beside a phrase stand its probability, its share and its effect; the
    figure says what they mean.

    Args:
        result: An answer with maps; each of its targets gets a section.
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
    if not result.explanations:
        raise ValueError("the answer explains no target")
    if tile_width < 1 or (columns is not None and columns < 1):
        raise ValueError(
            f"tile_width is at least 1 pixel and columns is at least 1, "
            f"not tile_width={tile_width}, columns={columns}"
        )
    sheet = Sheet(tile_width, font)
    photo = result.picture() if image is None else ImageSource(image).picture()
    # Tall photographs get narrower panels' worth of picture, never taller panels.
    photo.thumbnail((tile_width, tile_width), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if photo.width < tile_width and photo.height < tile_width:
        scale = tile_width / max(photo.size)
        photo = photo.resize(
            (round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC
        )
    canvas = _Canvas(photo, result.crop, result.image_size, sheet.px(0.5))
    sections = [
        _section(sheet, explanation, canvas, columns) for explanation in result.explanations
    ]
    return stacked(sections, sheet)


class _Canvas:
    """The photograph at the size of a panel, to draw heat on.

    Args:
        photo: Its pixels.
        crop: What the network saw of the image.
        image_size: (h, w) of the image as sent.
        frame: Width of the line around the crop, pixels.
    """

    def __init__(
        self, photo: Image.Image, crop: Crop, image_size: tuple[int, int], frame: int
    ) -> None:
        self.photo = photo
        self.size = (photo.height, photo.width)
        self._seen = inside(crop, image_size, self.size)
        self.framed = not self._seen.all()
        self._frame = frame

    def drawn(self, heat: Float32Array) -> Image.Image:
        """The photograph under heat (h, w), what the network did not see dimmed."""
        heated = blend(np.asarray(self.photo), heat, OPACITY)
        return Image.fromarray(spotlight(heated, self._seen, self._frame))


def _section(
    sheet: Sheet, explanation: Explanation, canvas: _Canvas, columns: int | None
) -> Image.Image:
    tiles = _tiles(explanation, canvas)
    columns = columns or _columns(len(tiles))
    width = columns * sheet.tile + (columns - 1) * sheet.gap
    parts = [_header(sheet, explanation, width)]
    if not explanation.phrases:
        parts.append(paragraph(sheet, wording.NOTHING_SAID, width, 7.2, INK))
    parts += [
        row(sheet, tiles[start : start + columns], width, canvas.photo.height)
        for start in range(0, len(tiles), columns)
    ]
    parts.append(_footer(sheet, explanation, width, framed=canvas.framed))
    return stacked(parts, sheet, margin=0, gap=sheet.px(5))


def _tiles(explanation: Explanation, canvas: _Canvas) -> list[Tile]:
    whole = wording.amount(explanation, wording.whole_evidence(explanation))
    heat = explanation.heatmap(canvas.size, smooth=True)
    return [
        Tile("photograph", "", INK, canvas.photo),
        Tile("where it looked", whole, INK, canvas.drawn(heat)),
        *(
            _group_tile(explanation, group, canvas)
            for group in (*wording.in_order(explanation), explanation.rest)
            if group.saliency_map is not None
        ),
    ]


def _group_tile(explanation: Explanation, group: SaliencyGroup, canvas: _Canvas) -> Tile:
    number = wording.amount(explanation, group.evidence)
    if group.relative_map is None:
        picture = canvas.drawn(group.heatmap(canvas.size, smooth=True))
    else:
        # Where the model looked: elsewhere its channels are told apart as well, and mislead.
        heat = group.relative_heatmap(canvas.size)
        heat = heat * np.sqrt(explanation.heatmap(canvas.size, smooth=True))
        picture = canvas.drawn(heat / (float(heat.max()) or 1.0))
    phrase = group.phrase
    if phrase is None:
        return Tile("all the rest", number, QUIET, picture)
    effect = wording.effect(explanation, phrase)
    return Tile(
        phrase.text,
        number,
        FOR if group.evidence >= 0 else AGAINST,
        picture,
        chance=wording.chance(phrase),
        kind=phrase.kind or "",
        note=effect and f"effect {effect}",
    )


def _columns(tiles: int) -> int:
    """The number from 3 to 5 that leaves the fewest holes; the wider on a tie."""
    return min((4, 5, 3), key=lambda columns: (-tiles % columns, abs(columns - 4)))


def _header(sheet: Sheet, explanation: Explanation, width: int) -> Image.Image:
    name = explanation.target.class_name
    if explanation.reference is not None:
        name = f"{name} rather than {explanation.reference.class_name}"
    header = Image.new("RGB", (width, sheet.px(17)), PAPER)
    draw = ImageDraw.Draw(header)
    large, small = sheet.font(11), sheet.font(7)
    baseline = sheet.px(11)
    chance = f"{explanation.target.probability:.1%}"
    chance_width = draw.textlength(chance, large)
    draw.text((width, baseline), chance, INK, large, anchor="rs")
    label = f"{wording.explained(explanation)} {wording.number(explanation.logit)}"
    label_right = width - chance_width - sheet.px(5)
    draw.text((label_right, baseline), label, QUIET, small, anchor="rs")
    room = label_right - draw.textlength(label, small) - sheet.px(6)
    draw.text((0, baseline), shortened(draw, name, large, room), INK, large, anchor="ls")
    bar_top = header.height - sheet.px(1.6)
    draw.rectangle((0, bar_top, width, header.height), LINE)
    draw.rectangle((0, bar_top, width * explanation.target.probability, header.height), INK)
    return header


def _footer(sheet: Sheet, explanation: Explanation, width: int, *, framed: bool) -> Image.Image:
    small = sheet.font(5.6)
    scale = Image.new("RGB", (width, sheet.px(8)), PAPER)
    middle = scale.height // 2
    bar_width = heat_bar(sheet, scale, middle, small)
    draw = ImageDraw.Draw(scale)
    sums = shortened(draw, wording.sums(explanation), small, width - bar_width - sheet.px(8))
    draw.text((width, middle), sums, QUIET, small, anchor="rm")
    parts = [
        paragraph(sheet, explanation.sentence, width, 7.2, INK),
        scale,
        *(
            paragraph(sheet, told, width, 5.2, QUIET)
            for told in _meanings(explanation, framed=framed)
        ),
    ]
    return stacked(parts, sheet, margin=0, gap=sheet.px(1))


def _meanings(explanation: Explanation, *, framed: bool) -> Sequence[str]:
    """A paragraph on the numbers, and one on the panels."""
    groups = [group for group in explanation.groups if group.saliency_map is not None]
    frame = "The frame holds what the network saw." if framed else ""
    if not groups:
        return [frame] if frame else []
    if any(group.relative_map is not None for group in groups):
        panels = (
            "A phrase's panel shows where, of where the model looked, the network sees it more "
            "than the other phrases, on a scale of its own: where, not how much, and not where a "
            "part of the object is."
        )
    else:
        panels = "All panels have one scale, so they can be compared."
    return [" ".join(wording.meanings(explanation)), f"{panels} {frame}".rstrip()]
