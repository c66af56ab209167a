"""Heat over an image, and the light on a crop."""

from __future__ import annotations

import numpy as np
from textcam_client._heatmaps.colormap import blend, spotlight

GREY = np.full((1, 5, 3), 100, np.uint8)


def test_pixels_without_heat_stay_unchanged_and_hotter_ones_change_more():
    heat = np.array([[0, 0.05, 0.3, 0.7, 1]], np.float32)
    drawn = blend(GREY, heat)
    assert drawn.dtype == np.uint8
    assert drawn[0, 0].tolist() == [100, 100, 100]
    change = np.abs(drawn.astype(int) - 100).sum(axis=2)[0]
    assert (np.diff(change) > 0).all()


def test_the_hottest_heat_has_the_opacity_of_its_colour():
    hottest = np.ones((1, 5), np.float32)
    assert blend(GREY, hottest, 1.0)[0, 0].tolist() == [255, 246, 132]
    assert blend(GREY, hottest, 0.5)[0, 0].tolist() == [178, 173, 116]
    np.testing.assert_array_equal(blend(GREY, hottest * 3), blend(GREY, hottest))


def test_colours_are_lighter_with_heat_all_the_way():
    ramp = np.linspace(0.2, 1, 200, dtype=np.float32)[None]
    drawn = blend(np.zeros((1, 200, 3), np.uint8), ramp, 1.0)
    lightness = drawn.astype(float)[0] @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > -1).all()  # colours are whole numbers
    assert lightness[-1] - lightness[0] > 150


def test_pixels_outside_the_crop_are_dimmed_and_a_line_surrounds_it():
    pixels = np.full((6, 8, 3), 100, np.uint8)
    seen = np.zeros((6, 8), bool)
    seen[1:5, 2:7] = True
    lit = spotlight(pixels, seen, 1)
    assert (lit[~seen] == 40).all()
    assert (lit[2:4, 3:6] == 100).all()
    assert (lit[1, 2:7] == 255).all()
    assert (lit[1:5, 6] == 255).all()
    assert (pixels == 100).all(), "the given pixels are left alone"


def test_a_crop_that_fills_the_image_or_is_empty_changes_nothing():
    for seen in (np.ones((1, 5), bool), np.zeros((1, 5), bool)):
        np.testing.assert_array_equal(spotlight(GREY, seen, 1), GREY)
