"""Layout of figures: measures, rows, lines of text."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from textcam_client.figure.sheet import (
    FOR,
    INK,
    PAPER,
    Sheet,
    Tile,
    heat_bar,
    paragraph,
    row,
    shortened,
    stacked,
    wrapped,
)

SHEET = Sheet(100)
DRAW = ImageDraw.Draw(Image.new("RGB", (1, 1)))
FONT = SHEET.font(6.6)
TEXT = "the fur of a striped cat on a red sofa"


def has_ink(picture):
    return (np.asarray(picture) != PAPER).any()


def test_measures_follow_the_tiles_width_and_are_a_pixel_at_least():
    assert [Sheet(tile).px(6) for tile in (100, 250, 1)] == [6, 15, 1]
    assert (Sheet(200).margin, Sheet(200).gap) == (20, 12)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_text_is_cut_to_its_room_with_dots(share):
    room = share * DRAW.textlength(TEXT, FONT)
    cut = shortened(DRAW, TEXT, FONT, room)
    assert DRAW.textlength(cut, FONT) <= room
    assert cut.endswith("...")
    assert TEXT.startswith(cut.removesuffix("..."))


def test_text_that_fits_is_not_cut():
    assert shortened(DRAW, TEXT, FONT, DRAW.textlength(TEXT, FONT)) == TEXT


def test_lines_keep_all_words_in_order_within_the_width():
    width = 70
    lines = wrapped(DRAW, TEXT, FONT, width)
    assert len(lines) > 1
    assert " ".join(lines) == TEXT
    assert all(DRAW.textlength(line, FONT) <= width for line in lines)
    assert wrapped(DRAW, "unbreakably", FONT, 5) == ["unbreakably"]
    assert wrapped(DRAW, "", FONT, 5) == []


def test_a_paragraph_is_as_high_as_its_lines():
    one, more = (paragraph(SHEET, TEXT, width, 6.6, INK) for width in (1000, 70))
    assert (one.width, more.width) == (1000, 70)
    assert more.height == one.height * len(wrapped(DRAW, TEXT, FONT, 70))
    assert has_ink(one)


def test_pictures_are_stacked_with_gaps_inside_a_margin():
    parts = [Image.new("RGB", size, FOR) for size in ((30, 10), (20, 5))]
    paper = stacked(parts, SHEET, margin=4, gap=3)
    assert paper.size == (38, 10 + 3 + 5 + 8)
    values = np.asarray(paper)
    assert (values[4:14, 4:34] == FOR).all()
    assert (values[14:17] == PAPER).all()
    assert (values[17:22, 4:24] == FOR).all()
    assert (values[17:22, 24:] == PAPER).all()


@pytest.mark.parametrize("note", ["", "grounded"])
def test_tiles_lie_side_by_side_below_their_captions(note):
    picture = Image.new("RGB", (40, 40), FOR)
    tile = Tile("cat", "+1.5", FOR, picture, note=note)
    drawn = row(SHEET, [tile, tile], 2 * SHEET.tile + SHEET.gap, 40)
    values, top = np.asarray(drawn), drawn.height - 40
    assert top == SHEET.px(12) + (SHEET.px(6.5) if note else 0)
    for left in (0, SHEET.tile + SHEET.gap):
        assert (values[top:, left + 30 : left + 70] == FOR).all()
        assert (values[top:, left : left + 30] == PAPER).all()
        assert has_ink(values[:top, left : left + SHEET.tile])


def test_the_scale_of_heat_is_drawn_within_the_width_that_it_states():
    paper = Image.new("RGB", (200, 20), PAPER)
    width = heat_bar(SHEET, paper, 10, SHEET.font(5.2))
    assert 0 < width < 200
    assert has_ink(paper.crop((0, 0, width, 20)))
    assert not has_ink(paper.crop((width + 2, 0, 200, 20)))
