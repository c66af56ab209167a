import pytest
from textcam_client.audit.findings.model import Estimate
from textcam_client.audit.findings.wording import interval, points, scaled


def test_an_interval_is_written_with_its_unit():
    assert interval(Estimate(1.104, 0.98, 1.22), "logits") == "1.10 (0.98 to 1.22) logits"
    assert interval(Estimate(1.104, None, None)) == "1.10"


def test_a_negative_factor_swaps_the_ends():
    turned = scaled(Estimate(0.2, 0.1, 0.4), -1)
    assert (turned.low, turned.high) == (-0.4, -0.1)


def test_rates_differ_in_percentage_points():
    assert points(Estimate(0.2, 0.1, 0.4)) == "20.00 (10.00 to 40.00) percentage points"
    assert scaled(Estimate(0.2, 0.1, 0.4), 100).high == pytest.approx(40)
