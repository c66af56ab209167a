"""Figures of results: the image, its heatmap, and a panel per phrase."""

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
    """Draw the image, its heatmap and a panel per phrase.

    A phrase's panel is SaliencyGroup.relative_heatmap times the root of the target's heatmap, on
    its own scale. Within the region where the model looked, it shows where the network sees the
    phrase more than the other phrases. It shows neither how much, nor where in the image a part is.

    "Where it looked" and "all the rest" share one scale, the target's strongest support. If the
    result has no relative maps, the phrases' panels show the groups' own maps on the same scale.
    Pixels outside the crop are dimmed. Each phrase has its probability, its share and its effect;
    the figure explains them.

    Args:
        result: A result with maps; each of its targets gets a section.
        image: Image to draw on; default: the explained image.
        tile_width: Width of a panel, pixels; all other sizes follow from it.
        columns: Panels per row; default: 3 to 5, the number with the fullest rows.
        font: A TrueType or OpenType file; default: Pillow's own font, which has only ASCII
            letters and draws others, as in "Ünïcödé", as crossed boxes.

    Returns:
        An RGB image.

    Raises:
        MapsDeclined: The result was requested without maps.
        PictureUnavailable: The image's file is gone or has changed.
        OSError: The font cannot be read.
        ValueError: The result has no target, or an option is out of range.
    """
    if not result.explanations:
        raise ValueError("the result has no target to draw")
    if tile_width < 1 or (columns is not None and columns < 1):
        raise ValueError(
            f"tile_width is at least 1 pixel and columns is at least 1, "
            f"not tile_width={tile_width}, columns={columns}"
        )
    sheet = Sheet(tile_width, font)
    photo = result.picture() if image is None else ImageSource(image).picture()
    # A tall image becomes narrower than its panel; panels never become taller.
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
    """The image at the size of a panel, as a ground for heat.

    Args:
        photo: The image, scaled.
        crop: The part of the image that the network saw.
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

    def draw(self, heat: Float32Array) -> Image.Image:
        """Draw heat (h, w) over the image, and dim the pixels outside the crop."""
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
        Tile("where it looked", whole, INK, canvas.draw(heat)),
        *(
            _group_tile(explanation, group, canvas)
            for group in (*wording.in_order(explanation), explanation.rest)
            if group.saliency_map is not None
        ),
    ]


def _group_tile(explanation: Explanation, group: SaliencyGroup, canvas: _Canvas) -> Tile:
    number = wording.amount(explanation, group.evidence)
    if group.relative_map is None:
        picture = canvas.draw(group.heatmap(canvas.size, smooth=True))
    else:
        # Only where the model looked: channels differ in other places too, which would mislead.
        heat = group.relative_heatmap(canvas.size)
        heat = heat * np.sqrt(explanation.heatmap(canvas.size, smooth=True))
        picture = canvas.draw(heat / (float(heat.max()) or 1.0))
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
    """Return the number from 3 to 5 with the fewest empty places; 4, then 5, on a tie."""
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
            paragraph(sheet, text, width, 5.2, QUIET)
            for text in _meanings(explanation, framed=framed)
        ),
    ]
    return stacked(parts, sheet, margin=0, gap=sheet.px(1))


def _meanings(explanation: Explanation, *, framed: bool) -> Sequence[str]:
    """Return a paragraph on the numbers and one on the panels."""
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
