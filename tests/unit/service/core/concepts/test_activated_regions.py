"""Activated regions: where a channel is excited, in pixels of the image."""

import math

import numpy as np
import pytest
from textcam_service.core.concepts.activated_regions import (
    RegionSettings,
    Window,
    activated_cells,
    activated_window,
    random_window,
    seen_window,
)
from textcam_service.core.types import Crop

WHOLE = Crop(0, 0, 80, 80)


TINY = RegionSettings(minimum=0.01)


def firing(*cells, size=8, strength=1.0):
    found = np.zeros((size, size), np.float32)
    for row, column in cells:
        found[row, column] = strength
    return found


def test_the_region_is_the_peak_and_what_hangs_together_with_it():
    found = firing((1, 1), (2, 2), (2, 3), (6, 6))
    found[2, 2] = 2.0  # the peak; (1, 1) touches by a corner, (6, 6) stands apart
    found[3, 3] = 0.5  # too weak at a share of a half, not at 0.2
    near = {(1, 1), (2, 2), (2, 3)}
    assert set(zip(*np.nonzero(activated_cells(found, 0.4)), strict=True)) == near
    assert set(zip(*np.nonzero(activated_cells(found, 0.2)), strict=True)) == near | {(3, 3)}
    assert not activated_cells(-found, 0.5).any()


def test_a_region_that_winds_is_followed_to_its_end():
    snake = [(0, c) for c in range(8)] + [(1, 7)] + [(2, c) for c in range(8)] + [(3, 0), (4, 0)]
    assert activated_cells(firing(*snake), 0.5).sum() == len(snake)


def test_cells_become_pixels_of_the_crop():
    """8 cells of 10 pixels: rows 2 and 3, column 4."""
    assert activated_window(firing((2, 4), (3, 4)), WHOLE, 80, 80, TINY) == Window(35, 20, 20, 20)
    crop = Crop(100, 40, 160, 160)  # 20 pixels a cell
    found = activated_window(firing((2, 4), (3, 4)), crop, 400, 400, TINY)
    assert found == Window(100 + 70, 40 + 40, 40, 40)


def test_cells_lie_where_they_look_and_border_cells_reach_to_the_border():
    shifted = Crop(0, 0, 80, 80, -4.0, 2.0)
    assert activated_window(firing((3, 3)), shifted, 80, 80, TINY) == Window(26, 32, 10, 10)
    # Column 0 reaches from 0 to 10 - 4 = 6, row 7 from 70 + 2 = 72 to 80: a square of 8 about
    # (3, 76) is moved into the picture.
    assert activated_window(firing((7, 0)), shifted, 80, 80, TINY) == Window(0, 72, 8, 8)


def test_a_window_has_a_least_side_and_stays_in_what_the_network_saw():
    half = RegionSettings(minimum=0.5)
    crop = Crop(10, 20, 80, 80)
    assert activated_window(firing((0, 0)), crop, 120, 100, half) == Window(10, 20, 40, 40)
    assert activated_window(firing((7, 7)), crop, 120, 100, half) == Window(50, 60, 40, 40)
    assert activated_window(firing((4, 4)), crop, 120, 100, half) == Window(35, 45, 40, 40)
    wide = firing(*[(4, column) for column in range(8)])
    assert activated_window(wide, Crop(0, 0, 80, 40), 40, 80, half) == Window(0, 0, 80, 40)


def test_a_map_that_is_nowhere_positive_has_no_region():
    assert activated_window(np.zeros((4, 4), np.float32), WHOLE, 80, 80, TINY) is None
    assert activated_window(np.full((4, 4), -1.0, np.float32), WHOLE, 80, 80, TINY) is None


def test_what_the_network_saw_is_in_the_image():
    assert seen_window(Crop(-0.4, 10.5, 50.8, 20.2), 100, 50) == Window(0, 10, 50, 21)


def test_random_windows_are_the_seeds():
    half = RegionSettings(minimum=0.5)
    drawn = [random_window(seed, Crop(10, 0, 80, 80), 80, 100, half) for seed in range(50)]
    assert drawn[3] == random_window(3, Crop(10, 0, 80, 80), 80, 100, half)
    assert len(set(drawn)) > 40
    for window in drawn:
        assert window.width == window.height == 40
        assert 10 <= window.left <= 50
        assert 0 <= window.top <= 40


def test_a_mosaics_window_is_no_smaller_than_its_tile():
    assert RegionSettings("mosaic", minimum=0.1).least_side == 0.5
    assert RegionSettings("mosaic", minimum=0.1, tiles=4, enlarge=2).least_side == 0.125
    assert RegionSettings("crop", minimum=0.1).least_side == 0.1


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="enlarge"):
        RegionSettings(enlarge=math.nan)
