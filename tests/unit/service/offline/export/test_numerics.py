"""Differences are judged on the values' own scale."""

import numpy as np
from textcam_service.offline.export.numerics import relative_difference


def test_a_difference_is_relative_to_the_largest_wanted_value():
    assert (
        relative_difference(np.array([1e-9, 2.2e-9]), np.array([1e-9, 2e-9]))
        == (np.float64(2.2e-9) - 2e-9) / 2e-9
    )


def test_a_difference_to_zeros_is_no_division_by_zero():
    assert relative_difference(np.zeros(3), np.zeros(3)) == 0
    assert relative_difference(np.ones(3), np.zeros(3)) > 1e20


def test_what_is_not_a_number_differs():
    assert not relative_difference(np.array([np.nan]), np.array([1.0])) <= 1e-4
