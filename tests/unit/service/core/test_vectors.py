import numpy as np
from textcam_service.core.vectors import unit


def test_vectors_get_length_one_and_zero_stays():
    found = unit(np.array([[[3.0, 4.0], [0.0, 0.0]]], np.float32))
    np.testing.assert_allclose(found, [[[0.6, 0.8], [0, 0]]], atol=1e-7)
    assert found.dtype == np.float64
