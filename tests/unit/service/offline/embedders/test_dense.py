"""Parts of a picture out of a dense map."""

import numpy as np
import torch
from textcam_service.offline.embedders.dense import (
    DenseTower,
    cell_shares,
    part_means,
    stretched_batches,
    unit_rows,
)


def test_cells_belong_to_parts_by_their_share():
    share = cell_shares(np.array([0.0, 0.3, 0.5]), np.array([0.5, 0.4, 1.0]), 4, 0.0)
    assert np.allclose(share, [[1, 1, 0, 0], [0, 0.4, 0, 0], [0, 0, 1, 1]])
    # All cells lie half a cell to the left; the last one still reaches to the border.
    shifted = cell_shares(np.array([0.0, 0.5]), np.array([0.5, 1.0]), 4, -0.125)
    assert np.allclose(shifted, [[1, 1, 0.5, 0], [0, 0, 0.5, 1]])
    assert np.allclose(cell_shares(np.zeros(1), np.ones(1), 5, 0.07), 1)


def test_pictures_are_stretched_a_batch_at_a_time_with_their_parts():
    pictures = [np.full((place + 1, 3, 3), 50 * place, np.uint8) for place in range(5)]
    parts = [np.full((place, 4), float(place)) for place in range(5)]
    batches = list(stretched_batches(pictures, parts, (6, 4), 2))
    assert [len(some) for some, _ in batches] == [2, 2, 1]
    assert {one.size for some, _ in batches for one in some} == {(4, 6)}
    greys = [np.asarray(one)[0, 0, 0] for some, _ in batches for one in some]
    assert greys == [0, 50, 100, 150, 200]
    assert [own for _, some in batches for own in some] == parts
    assert list(stretched_batches([], [], (6, 4))) == []


class Quarters:
    """Pools a map by the sum of the shares of its cells."""

    even = True

    def maps(self, pixels):
        return pixels

    def grid(self, maps):
        return maps.shape[2], maps.shape[3]

    def pool(self, one, weights):
        return part_means(one, weights)


def test_a_tower_pools_each_pictures_own_parts():
    pixels = torch.arange(8.0).reshape(2, 1, 2, 2)
    parts = [np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]]), np.array([[0.5, 0, 1, 1]])]
    found = DenseTower(Quarters(), (2, 2)).embed(pixels, parts)
    assert found[:, 0].tolist() == [1.5, 0.0, 6.0]


def test_rows_become_unit_vectors():
    found = unit_rows(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1]], atol=1e-6)
