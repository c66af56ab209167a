"""Vertices on a grid; test_rationale_supports.py places whole rationales."""

import numpy as np
import pytest
from textcam_service.core.vertices import Vertices, drawn_grid


def test_the_grid_is_four_times_as_fine_as_the_vertices_and_no_finer_than_pixels():
    assert drawn_grid(49, 224, 224) == (28, 28)
    assert drawn_grid(50, 100, 200) == (20, 40)
    assert drawn_grid(10_000, 32, 16) == (32, 16)


def test_a_vertex_at_a_cells_centre_gives_it_its_value_and_no_cell_leaves_the_range():
    height, width = drawn_grid(4, 32, 32)
    centres = (np.arange(width) + 0.5) * 32 / width
    corners = [(centres[x], centres[y]) for x in (1, 6) for y in (1, 6)]
    vertices = Vertices(np.array(corners), 32, 32)
    maps = np.array([[[1.0], [2.0], [-3.0], [5.0]]])
    placed = vertices.place(maps)
    assert placed.shape == (1, height, width)
    found = [placed[0, y, x] for x in (1, 6) for y in (1, 6)]
    assert found == pytest.approx([1, 2, -3, 5], abs=1e-3)
    assert -3 <= placed.min() < placed.max() <= 5


def test_placing_keeps_sums_of_maps():
    rng = np.random.default_rng(0)
    vertices = Vertices(rng.uniform(0, 24, (9, 2)), 24, 24)
    maps = rng.standard_normal((3, 9, 1))
    whole = vertices.place(maps.sum(axis=0)[None])[0]
    np.testing.assert_allclose(vertices.place(maps).sum(axis=0), whole, atol=1e-5)
    np.testing.assert_allclose(vertices.place(np.full((1, 9, 1), 2.5)), 2.5, rtol=1e-6)
