"""Contours over images, and PNG label maps."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mask_samples import disc
from PIL import Image
from skimage.measure import find_contours
from textcam_client import (
    draw_contours,
    label_image,
)


def test_a_saved_label_map_is_read_back_as_it_was():
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    buffer = io.BytesIO()
    label_image(labels).save(buffer, "PNG")
    read = Image.open(io.BytesIO(buffer.getvalue()))
    assert read.mode == "P"
    np.testing.assert_array_equal(np.asarray(read), labels)
    colours = np.asarray(read.convert("RGB")).reshape(256, 3)
    assert len(np.unique(colours, axis=0)) > 200
    assert (colours[0] == 0).all()
    assert np.abs(np.diff(colours[1:].astype(int), axis=0)).sum(1).min() > 150


def test_contours_run_along_the_masks_own_edge_and_leave_the_rest_alone():
    mask = np.zeros((12, 15), bool)
    mask[3:9, 4:11] = True
    image = np.full((12, 15, 3), 100, np.uint8)
    drawn = np.asarray(draw_contours(image, mask, width=1)).astype(int)
    line = mask.copy()
    line[4:8, 5:10] = False
    halo = np.zeros_like(mask)
    halo[2:10, 3:12] = True
    halo &= ~mask
    assert (drawn[line] == drawn[3, 4]).all()
    assert np.ptp(drawn[3, 4]) > 200
    assert (drawn[halo] == 25).all()
    assert (drawn[~line & ~halo] == 100).all()


def test_contours_follow_scikit_images():
    mask = disc(90, 110, 40, 60, 25) | disc(90, 110, 60, 20, 12)
    drawn = np.asarray(draw_contours(np.zeros((90, 110, 3), np.uint8), mask, width=1))
    line = drawn.any(axis=2)
    near = np.zeros_like(line)
    for contour in find_contours(mask.astype(float), 0.5):
        rows, columns = contour.T
        # Each of its points lies between a pixel of the mask and one outside.
        for row, column in ((np.floor, np.floor), (np.ceil, np.ceil)):
            near[row(rows).astype(int), column(columns).astype(int)] = True
    sides = near & mask
    assert not (sides & ~line).any()
    assert not (line & ~mask).any()


def test_each_label_has_its_colour_fill_and_width():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 1, 2
    image = np.full((40, 60, 3), 60, np.uint8)
    drawn = np.asarray(draw_contours(image, labels, width=3, fill=0.5)).astype(int)
    palette = np.asarray(label_image(labels).convert("RGB")).astype(int)
    for left, right in ((20, 40), (40, 60)):
        colour = palette[0, left]
        assert (drawn[10, left : left + 3] == colour).all()
        assert (drawn[10, right - 3 : right] == colour).all()
        np.testing.assert_allclose(drawn[20, left + 10], (colour + 60) / 2, atol=1)
    assert (drawn[:, :19] == 60).all()


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (np.zeros((5, 6)), {}, "a mask is bool, and a label map uint8"),
        (np.zeros((5, 6), int), {}, "not int64"),
        (np.zeros((6, 5), bool), {}, "the mask is 6 x 5, and the image 5 x 6"),
        (np.zeros((5, 6), bool), {"width": 0}, "at least 1 pixel"),
        (np.zeros((5, 6), bool), {"fill": 2}, "fill is 0..1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_remedy(mask, options, message):
    with pytest.raises(ValueError, match=message):
        draw_contours(np.zeros((5, 6, 3), np.uint8), mask, **options)
