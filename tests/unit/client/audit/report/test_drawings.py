"""Intervals are drawn on one axis with 0."""

import pytest
from textcam_client.audit.findings.model import Estimate
from textcam_client.audit.report.drawings import WIDTH, Axis, axis


def test_the_axis_shows_all_ends_and_zero():
    found = axis(
        [Estimate(1.0, 0.5, 1.5), Estimate(-0.2, -0.4, None), Estimate(float("nan"), 0, 0)]
    )
    assert (found.low, found.high) == (-0.4, 1.5)
    assert axis([]) == Axis(0.0, 1.0)


def test_places_go_from_margin_to_margin_and_no_further():
    own = Axis(-1.0, 3.0)
    assert own.at(-1.0) == pytest.approx(6)
    assert own.at(3.0) == pytest.approx(WIDTH - 6)
    assert own.at(1.0) == pytest.approx(WIDTH / 2)
    assert own.at(99.0) == own.at(3.0)
