"""Thumbnails."""

import io

import numpy as np
import pytest
from PIL import Image
from textcam_client.audit.run.pictures.thumbnails import thumbnail


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_thumbnail_fits_in_its_cell_and_shows_the_image(form):
    picture = Image.new("RGB", (400, 200), "red")
    picture.paste("blue", (200, 0, 400, 200))
    small = Image.open(io.BytesIO(thumbnail(encoded(picture, form))))
    assert (small.format, small.size) == ("JPEG", (96, 48))
    left, right = np.asarray(small)[24, 10], np.asarray(small)[24, 85]
    assert (left > 140).tolist() == [True, False, False]
    assert (right > 140).tolist() == [False, False, True]


def test_a_turned_photograph_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (400, 200)), "JPEG", exif=exif)
    assert Image.open(io.BytesIO(thumbnail(content))).size == (48, 96)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("L", (9, 9)), "PNG")[:40]])
def test_a_broken_file_has_none(content):
    assert thumbnail(content) == b""
