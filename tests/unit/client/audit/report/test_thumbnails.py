"""Thumbnails fit into their room, and the page says how."""

import base64
import io

import numpy as np
import pytest
from audit_pages import picture
from PIL import Image
from textcam_client.audit.report.thumbnails import BLOCK, FittedThumbnails, fit_thumbnails


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [picture(number % 5, rng) for number in range(12)]


def sizes(images):
    return {Image.open(io.BytesIO(own)).size for own in images if own}


def room(images):
    return sum(len(base64.b64encode(own)) + 1 for own in images)


def test_images_that_fit_stay_as_they_are(pictures):
    fitted = fit_thumbnails(pictures, room(pictures))
    assert fitted.images == pictures
    assert fitted.note == ""


def test_images_are_made_smaller_until_they_fit(pictures):
    budget = room(pictures) // 2
    fitted = fit_thumbnails([*pictures, b""], budget)
    assert room(fitted.images[:-1]) <= budget
    assert fitted.images[-1] == b""
    (size,) = sizes(fitted.images)
    assert f"{max(size)} pixels" in fitted.note


def test_where_none_fit_the_first_keep_theirs(pictures):
    fitted = fit_thumbnails(pictures, 1_500, first=[7, 3])
    kept = [place for place, own in enumerate(fitted.images) if own]
    assert {3, 7} <= set(kept)
    assert room([fitted.images[place] for place in kept]) <= 1_500
    assert fitted.note.startswith(f"{len(kept)} of 12 images")


def test_blocks_hold_one_image_a_line():
    images = [bytes([place % 251]) * 4 for place in range(BLOCK + 1)]
    first, second = FittedThumbnails(images).blocks()
    assert [base64.b64decode(line) for line in first.split("\n")] == images[:BLOCK]
    assert base64.b64decode(second) == images[BLOCK]


def test_urls_are_data_urls():
    fitted = FittedThumbnails([b"abc", b""])
    assert fitted.url(0) == "data:image/webp;base64,YWJj"
    assert fitted.url(1) == ""
