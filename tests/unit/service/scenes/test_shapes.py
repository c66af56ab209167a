"""Rays meet shapes where geometry says."""

import numpy as np
import pytest
from textcam_service.scenes.shapes import HEIGHTS, INTERSECT

ABOVE = np.array([[0.3], [0.2], [5.0]], np.float32)
DOWN = np.array([[0.0], [0.0], [-1.0]], np.float32)


@pytest.mark.parametrize("shape", INTERSECT)
def test_a_ray_beside_a_shape_misses_it(shape):
    distance, _ = INTERSECT[shape](ABOVE + np.float32([[3], [0], [0]]), DOWN)
    assert np.isinf(distance).all()


@pytest.mark.parametrize(
    ("shape", "top"),
    [
        ("sphere", 1 + np.sqrt(1 - 0.13)),
        ("cube", HEIGHTS["cube"]),
        ("cylinder", HEIGHTS["cylinder"]),
        ("cone", 2 - 2 * np.sqrt(0.13)),
    ],
)
def test_a_ray_from_above_ends_on_the_surface(shape, top):
    """At 0.3, 0.2 from the axis, whose distance to it is the root of 0.13."""
    distance, normal = INTERSECT[shape](ABOVE, DOWN)
    assert distance[0] == pytest.approx(5 - top, abs=1e-4)
    assert np.linalg.norm(normal[:, 0]) == pytest.approx(1, abs=1e-4)
    assert normal[2, 0] > 0


@pytest.mark.parametrize("shape", INTERSECT)
def test_normals_of_rays_from_all_sides_are_unit_and_face_the_ray(shape):
    angles = 0.1 + np.linspace(0, 2 * np.pi, 24, endpoint=False)  # no edge is met
    ray = np.stack([np.cos(angles), np.sin(angles), np.full(24, -0.2)]).astype(np.float32)
    ray /= np.linalg.norm(ray, axis=0)
    origin = -4 * ray + np.array([[0], [0], [HEIGHTS[shape] / 2]], np.float32)
    distance, normal = INTERSECT[shape](origin.astype(np.float32), ray)
    assert np.isfinite(distance).all()
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-3)
    assert ((normal * ray).sum(axis=0) < 0).all()
