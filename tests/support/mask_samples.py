"""Shapes, heat and pictures that the tests of masks share."""

from __future__ import annotations

import numpy as np
from hypothesis.extra.numpy import array_shapes, arrays

GREY, RED, GREEN = (128, 128, 128), (200, 30, 30), (30, 160, 60)
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=25))


def disc(height, width, row, column, radius):
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def bump(height, width, row, column, spread):
    """Heat that is 1 at a place and falls off, as a coarse map's does."""
    y, x = np.mgrid[:height, :width]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2))


def painted(height, width, *things):
    """A noisy grey image with each (mask, colour) on it."""
    image = np.full((height, width, 3), GREY, float)
    for mask, colour in things:
        image[mask] = colour
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def same_but_for_edges(mask, truth, pixels=2):
    """Whether a mask differs from the truth only within some pixels of its edge."""
    beside = np.zeros_like(truth)
    padded = np.pad(truth, pixels, mode="edge")
    for y in range(2 * pixels + 1):
        for x in range(2 * pixels + 1):
            beside |= padded[y : y + truth.shape[0], x : x + truth.shape[1]] != truth
    return not (mask ^ truth)[~beside].any()
