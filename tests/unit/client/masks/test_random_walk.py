"""Seeds grow along an image's colours to whole objects."""

from __future__ import annotations

import time

import pytest
from mask_samples import GREEN, RED, bump, disc, overlap, painted, same_but_for_edges
from textcam_client import (
    pseudo_mask,
)


@pytest.mark.parametrize(("radius", "spread"), [(12, 24), (45, 20), (30, 30)])
def test_seeds_grow_to_the_whole_object_however_wide_the_heat(radius, spread):
    """Heat that is far wider than the object, far narrower, and off its middle."""
    truth = disc(120, 160, 60, 70, radius)
    heat = bump(120, 160, 60 + radius // 4, 70 + radius // 4, spread)
    image = painted(120, 160, (truth, RED))
    mask = pseudo_mask(heat, image=image)
    assert same_but_for_edges(mask, truth)
    assert overlap(mask, truth) > 0.8
    assert not same_but_for_edges(pseudo_mask(heat, method="fixed"), truth)


def test_seeds_do_not_jump_to_a_like_object_that_is_apart():
    near, far = disc(100, 160, 50, 40, 15), disc(100, 160, 50, 120, 15)
    heat = bump(100, 160, 50, 40, 20) + 0.5 * bump(100, 160, 50, 120, 20)
    mask = pseudo_mask(heat, image=painted(100, 160, (near, RED), (far, RED)))
    assert same_but_for_edges(mask, near)


def test_seeds_on_a_large_image_are_as_good_and_quick():
    truth = disc(480, 640, 240, 300, 90)
    heat, image = bump(480, 640, 220, 310, 120), painted(480, 640, (truth, GREEN))
    begun = time.perf_counter()
    mask = pseudo_mask(heat, image=image)
    assert time.perf_counter() - begun < 5  # some 50 ms on a quiet core
    # The walk runs on an image a quarter as wide.
    assert same_but_for_edges(mask, truth, pixels=8)
