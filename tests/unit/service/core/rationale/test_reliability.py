"""Reliability tables."""

import numpy as np
import pytest
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import (
    with_reliability,
)
from textcam_service.core.rationale.reliability import reliability

MADE = Calibration(
    mean=np.array([0.1, -0.2, 0.0], np.float32),
    deviation=0.05,
    prior=np.array([0.2, 0.01, 0.0], np.float32),
    grounded=np.array([True, True, False]),
    slope=2.0,
    prior_weight=0.9,
    offset=-0.5,
    temperature=0.0,
    source="labels",
    images=40,
)


def test_reliability_by_hand():
    given, true = np.array([[0.05, 0.07], [0.95, 1.0]]), np.array([[0, 1], [1, 0.5]])
    low, high = reliability(given, true)
    assert (low.lower, low.upper, low.count) == (0, 0.1, 2)
    assert (low.probability, low.observed) == pytest.approx((0.06, 0.5))
    assert (high.lower, high.upper, high.count) == (0.9, 1.0, 2)
    assert (high.probability, high.observed) == pytest.approx((0.975, 0.75))
    found = with_reliability(MADE, given, true)
    assert found.bins == (low, high)
    assert found.expected_error == pytest.approx((0.44 * 2 + 0.225 * 2) / 4)
    assert (MADE.expected_error, reliability(np.zeros(0), np.zeros(0))) == (0.0, ())
