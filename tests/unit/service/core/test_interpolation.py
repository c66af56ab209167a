"""Resampling of maps by hand; tests/oracle compares it with torch."""

import numpy as np
import pytest
from textcam_service.core.interpolation import resample, resampling


@pytest.mark.parametrize(("cells", "pixels"), [(1, 5), (3, 7), (7, 3), (4, 4)])
def test_weights_of_each_pixel_add_up_to_one(cells, pixels):
    weights = resampling(cells, pixels)
    assert weights.shape == (pixels, cells)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights >= 0).all()


def test_stretching_is_linear_between_centres_and_holds_the_edges():
    np.testing.assert_allclose(resample(np.array([[0.0, 1.0]]), 1, 4), [[0, 0.25, 0.75, 1]])


def test_shrinking_averages_by_a_triangle():
    """Of 4 cells in 2: each pixel's triangle has its centre between two cells and reaches 2 far."""
    found = resample(np.array([[8.0, 0.0, 0.0, 0.0]]), 1, 2)
    np.testing.assert_allclose(found, [[8 * 0.75 / 1.75, 8 * 0 / 1.75]], rtol=1e-6)


def test_the_same_size_changes_nothing():
    values = np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(resample(values, 5, 6), values, atol=1e-6)
