"""Array operations that methods share."""

import numpy as np
import pytest
from textcam_service.core.methods.arrays import blur, masks, reproducing_weights
from tiny_network import A


def test_reproducing_weights_are_the_smallest():
    random = np.random.default_rng(6)
    maps, target = random.random((20, 3, 4)), random.standard_normal((3, 4))
    weights = reproducing_weights(maps, target)
    expected = np.linalg.pinv(maps.reshape(20, -1).T) @ target.ravel()
    np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_too_few_channels_come_as_near_to_a_map_as_they_can():
    random = np.random.default_rng(6)
    maps, target = random.random((5, 3, 4)), random.standard_normal((3, 4))
    expected = np.linalg.lstsq(maps.reshape(5, -1).T, target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(reproducing_weights(maps, target), expected, atol=1e-4)


def test_masks_span_0_to_1_and_constant_maps_are_black():
    maps = np.stack([A[0], 5 + A[1], np.full((2, 2), 3.3)])
    made = masks(maps, 9, 7)
    np.testing.assert_allclose(made.min(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(made.max(axis=(1, 2)), [1, 1, 0], atol=1e-6)


def test_blurring_keeps_a_plain_image_and_spreads_a_dot():
    np.testing.assert_allclose(blur(np.full((3, 16, 20), 2.0), 1 / 8), 2, rtol=1e-5)
    dot = np.zeros((1, 32, 32))
    dot[0, 16, 16] = 1
    spread = blur(dot, 1 / 16)[0]
    assert spread[16, 18] / spread[16, 16] == pytest.approx(np.exp(-0.5), rel=1e-3)
