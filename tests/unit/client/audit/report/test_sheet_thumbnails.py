"""Thumbnails are cut from the cells where the audit put them."""

import io

import numpy as np
import pytest
from PIL import Image
from textcam_client.audit.report.sheet_thumbnails import SheetThumbnails

RED, BLUE = (200, 30, 30, 255), (30, 30, 200, 255)


@pytest.fixture
def folder(tmp_path):
    """Sheets with a red wide picture for row 13 and a blue square one for row 200."""
    (tmp_path / "sprites").mkdir()
    first = Image.new("RGBA", (960, 192))
    first.paste(Image.new("RGBA", (96, 48), RED), (3 * 96, 96 + 24))
    first.save(tmp_path / "sprites/0000.webp", quality=75)
    second = Image.new("RGBA", (960, 96))
    second.paste(Image.new("RGBA", (96, 96), BLUE), (0, 0))
    second.save(tmp_path / "sprites/0001.webp", quality=75)
    return tmp_path


def picture(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_picture_is_found_by_its_row_without_the_margins_of_its_cell(folder):
    cut = SheetThumbnails(folder)
    assert picture(cut(13)).size == (96, 48)
    np.testing.assert_allclose(np.mean(picture(cut(13)), (0, 1)), RED[:3], atol=6)
    assert picture(cut(200)).size == (96, 96)
    np.testing.assert_allclose(np.mean(picture(cut(200)), (0, 1)), BLUE[:3], atol=6)


@pytest.mark.parametrize("index", [0, 14, 199, 201, 5000])
def test_rows_without_a_picture_have_none(folder, index):
    assert SheetThumbnails(folder)(index) == b""
