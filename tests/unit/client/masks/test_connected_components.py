"""Connected components of masks, and their boxes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from mask_samples import MASKS
from skimage.measure import label, regionprops
from textcam_client import (
    Box,
    bounding_boxes,
    encode_rle,
)
from textcam_client.masks.connected_components import connected_components


def test_regions_by_hand_corners_touch():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
    expected = [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 3, 0, 4]]
    np.testing.assert_array_equal(connected_components(mask), expected)


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_regions_and_boxes_are_scikit_images(mask):
    regions = connected_components(mask)
    expected = label(mask, connectivity=2)
    np.testing.assert_array_equal(regions, expected)
    found = sorted(bounding_boxes(mask))
    boxes = [region.bbox for region in regionprops(expected)]
    assert found == sorted((x, y, right - x, low - y) for y, x, low, right in boxes)


def test_a_spiral_and_a_comb_are_one_region_each():
    """Runs that meet late: a numbering that gives up early would split them."""
    spiral = np.zeros((41, 41), bool)
    for turn in range(0, 20, 2):
        spiral[turn, turn : 41 - turn] = spiral[turn : 41 - turn, 40 - turn] = True
        spiral[40 - turn, turn : 41 - turn] = spiral[turn + 2 : 41 - turn, turn] = True
        spiral[turn + 2, turn : turn + 3] = True
    comb = np.zeros((60, 301), bool)
    comb[:, ::2] = comb[-1] = True
    for mask in (spiral, comb):
        assert connected_components(mask).max() == label(mask, connectivity=2).max() == 1


def test_regions_of_a_photograph_sized_mask_are_quick():
    mask = np.random.default_rng(0).random((480, 640)) < 0.5
    begun = time.perf_counter()
    regions = connected_components(mask)
    assert time.perf_counter() - begun < 5  # some 15 ms on a quiet core
    np.testing.assert_array_equal(regions, label(mask, connectivity=2))


def test_boxes_come_largest_first_and_small_regions_can_be_left_out():
    mask = np.zeros((20, 30), bool)
    mask[2:4, 3:6] = mask[10:19, 12:30] = True
    mask[0, 29] = True
    boxes = Box(12, 10, 18, 9), Box(3, 2, 3, 2), Box(29, 0, 1, 1)
    assert bounding_boxes(mask) == boxes
    assert bounding_boxes(mask, min_area=6) == boxes[:2]
    assert bounding_boxes(mask, largest=True) == boxes[:1]
    assert bounding_boxes(np.zeros((3, 3), bool), largest=True) == ()


@pytest.mark.parametrize("function", [bounding_boxes, encode_rle, connected_components])
@pytest.mark.parametrize(
    "wrong", [np.ones((3, 3)), np.ones((1, 3, 3), bool), np.ones((0, 3), bool)]
)
def test_what_is_no_mask_is_refused_with_the_remedy(function, wrong):
    with pytest.raises(ValueError, match=r"a mask is bool of shape \(h, w\).*heat >= 0.5"):
        function(wrong)
