"""Heatmaps are the client's, and small in memory."""

import tracemalloc

import numpy as np
import pytest
from textcam_client._heatmaps.geometry import Crop as ClientCrop
from textcam_client._heatmaps.geometry import upsample
from textcam_service.core.heatmap import heatmap, to_uint8
from textcam_service.core.types import Crop


def test_heatmap_is_the_clients_within_a_grey_level():
    values = np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
    crop = Crop(left=12.5, top=0.0, width=60.0, height=60.0)
    mine = heatmap(values, crop, 60, 85)
    support = np.maximum(values, 0) / values.max()
    theirs = upsample(support, ClientCrop(12.5, 0.0, 60.0, 60.0), (60, 85), (60, 85))
    assert np.abs(mine - theirs).max() <= 1 / 255
    assert (mine[:, :12] == 0).all()
    assert (mine[:, 73:] == 0).all()
    assert to_uint8(mine).max() > 200


def test_a_shifted_grid_moves_the_heat_and_not_the_crop():
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    plain, moved = Crop(10, 0, 40, 40), Crop(10, 0, 40, 40, shift_x=-5.0, shift_y=3.0)
    still, shifted = heatmap(values, plain, 40, 60), heatmap(values, moved, 40, 60)
    np.testing.assert_allclose(shifted[3:, 10:40], still[:-3, 15:45], atol=1e-6)
    assert not shifted[:, :10].any()
    assert not shifted[:, 50:].any()
    client_crop = ClientCrop(10, 0, 40, 40, -5.0, 3.0)
    np.testing.assert_allclose(
        shifted, upsample(values, client_crop, (40, 60), (40, 60)), atol=1e-6
    )
    half = upsample(values, client_crop, (40, 60), (20, 30))
    np.testing.assert_allclose(half.max(), 1, atol=0.3)


@pytest.mark.parametrize("size", [(2300, 3100), (2, 3_000_000)])
def test_a_large_heatmap_is_the_clients_and_takes_little_beyond_itself(size):
    height, width = size
    values = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    crop = Crop(left=width / 4 + 0.5, top=0.0, width=width / 2, height=height)
    tracemalloc.start()
    mine = heatmap(values, crop, height, width, 1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mine.nbytes + 50 * 2**20
    at_edges = [*range(1020, 1030), *range(width // 2 - 5, width // 2 + 5), width - 1]
    client_crop = ClientCrop(crop.left, crop.top, crop.width, crop.height)
    theirs = upsample(values, client_crop, (height, width), (height, width))
    np.testing.assert_allclose(mine[:, at_edges], theirs[:, at_edges], atol=1e-5)


def test_a_map_without_support_is_an_empty_heatmap():
    assert not heatmap(-np.ones((3, 3)), Crop(0, 0, 9, 9), 9, 9).any()
