"""Sprite sheets."""

import io

import pytest
from PIL import Image
from textcam_client.audit.records.sprites import CELL, CELLS, COLUMNS, SpriteWriter, sheet_name


def thumbnail(colour):
    file = io.BytesIO()
    Image.new("RGB", (CELL, CELL), colour).save(file, "WEBP", lossless=True)
    return file.getvalue()


def test_row_and_place_follow_from_the_index(tmp_path):
    blue, shown = thumbnail("blue"), (0, CELLS + 12)
    with SpriteWriter(tmp_path) as writer:
        places = [writer.add(blue if index in shown else b"") for index in range(CELLS + 13)]
    assert [place for place in places if place != (-1, -1)] == [(0, 0), (1, 12)]
    with Image.open(tmp_path / sheet_name(0)) as sheet:
        assert sheet.size == (COLUMNS * CELL, CELLS // COLUMNS * CELL)
    with Image.open(tmp_path / sheet_name(1)) as sheet:
        assert sheet.size == (COLUMNS * CELL, 2 * CELL)
        assert sheet.getpixel((2 * CELL + 48, CELL + 48))[2] > 240


def test_a_sheet_without_a_thumbnail_is_not_written(tmp_path):
    with SpriteWriter(tmp_path) as writer:
        assert writer.add(b"") == (-1, -1)
    assert list((tmp_path / "sprites").iterdir()) == []


def fill(folder, rows, thumbnail, error=None):
    with SpriteWriter(folder) as writer:
        for _ in range(rows):
            writer.add(thumbnail)
        if error:
            raise error


@pytest.mark.parametrize("rows", [CELLS, 5 * CELLS, 1])
def test_a_sheet_that_cannot_be_written_is_an_error(tmp_path, rows):
    (tmp_path / sheet_name(0)).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        fill(tmp_path, rows, thumbnail("blue"))


def test_no_sheet_is_begun_once_something_else_failed(tmp_path):
    with pytest.raises(KeyError):
        fill(tmp_path, 1, thumbnail("blue"), KeyError())
    assert list((tmp_path / "sprites").iterdir()) == []
