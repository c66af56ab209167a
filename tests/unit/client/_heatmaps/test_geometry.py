"""Maps are stretched over their crop."""

from __future__ import annotations

import numpy as np
import pytest
from textcam_client import Crop
from textcam_client._heatmaps.geometry import inside, smooth_peak, upsample

WHOLE = Crop(0, 0, 4, 4)


def test_a_map_of_the_images_size_stays_as_it_is():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(upsample(values, WHOLE, (4, 4), (4, 4)), values)


def test_cells_are_interpolated_from_half_pixel_centres():
    stretched = upsample(np.array([[0.0, 1.0]]), WHOLE, (4, 4), (4, 4))
    np.testing.assert_allclose(stretched[0], [0, 0.25, 0.75, 1])


def test_pixels_outside_the_crop_are_0_at_any_size():
    crop = Crop(2, 0, 2, 4)
    for size in ((4, 4), (8, 8)):
        stretched = upsample(np.ones((2, 2)), crop, (4, 4), size)
        np.testing.assert_array_equal(stretched > 0, inside(crop, (4, 4), size))
        assert stretched[:, : size[1] // 2].max() == 0


def test_a_shift_moves_the_cells_to_the_right_and_down():
    values = np.array([[0.0, 1.0], [0.0, 1.0]])
    plain = upsample(values, WHOLE, (4, 4), (4, 4))
    shifted = upsample(values, Crop(0, 0, 4, 4, shift_x=1.0), (4, 4), (4, 4))
    np.testing.assert_allclose(shifted[:, 1:], plain[:, :-1], atol=1e-6)


@pytest.mark.parametrize("cells", [1, 2, 7, 14])
def test_smooth_interpolation_flattens_peaks_by_what_smooth_peak_says(cells):
    values = np.zeros((cells, cells))
    values[0, 0] = 1.0
    drawn = upsample(values, WHOLE, (4, 4), (448, 448), smooth=True)
    assert smooth_peak(values, WHOLE) == pytest.approx(drawn.max(), abs=0.05)
    assert 0 <= drawn.min() <= drawn.max() <= 1 + 1e-6
