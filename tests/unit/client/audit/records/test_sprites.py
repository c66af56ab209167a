"""Sprite sheets."""

import io

from PIL import Image
from textcam_client.audit.records.sprites import CELL, CELLS, COLUMNS, SpriteWriter, sheet_name


def thumbnail(colour):
    file = io.BytesIO()
    Image.new("RGB", (CELL, CELL), colour).save(file, "WEBP", lossless=True)
    return file.getvalue()


def test_row_and_place_follow_from_the_index(tmp_path):
    writer = SpriteWriter(tmp_path)
    blue = thumbnail("blue")
    places = [writer.add(blue if index in (0, CELLS + 12) else b"") for index in range(CELLS + 13)]
    writer.finish()
    assert [place for place in places if place != (-1, -1)] == [(0, 0), (1, 12)]
    with Image.open(tmp_path / sheet_name(0)) as sheet:
        assert sheet.size == (COLUMNS * CELL, CELLS // COLUMNS * CELL)
    with Image.open(tmp_path / sheet_name(1)) as sheet:
        assert sheet.size == (COLUMNS * CELL, 2 * CELL)
        assert sheet.getpixel((2 * CELL + 48, CELL + 48))[2] > 240


def test_a_sheet_without_a_thumbnail_is_not_written(tmp_path):
    writer = SpriteWriter(tmp_path)
    assert writer.add(b"") == (-1, -1)
    writer.finish()
    assert list((tmp_path / "sprites").iterdir()) == []
