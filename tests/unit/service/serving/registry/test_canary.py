"""The figures of a canary against the thresholds."""

import math

import pytest
from textcam_service.errors import DriftRefused
from textcam_service.serving.registry.canary import Drift
from textcam_service.settings import ServerSettings

ALIKE = {"map_correlation": 1.0, "same_phrase": 1.0, "same_class": 1.0, "share_difference": 0.0}
THRESHOLDS = {
    "map_correlation": {"canary_min_map_correlation": 0.9},
    "same_phrase": {"canary_min_first_phrase": 0.9},
    "same_class": {"canary_min_top1": 0.9},
    "share_difference": {"canary_max_share_difference": 0.1},
}


@pytest.mark.parametrize("measure", ALIKE)
def test_a_figure_that_is_no_number_is_refused(measure):
    """As where a version overflows on one image: a mean with a NaN in it is one."""
    settings = ServerSettings(store="s", **THRESHOLDS[measure])
    Drift(2, **ALIKE).require(settings, "m", "2")
    with pytest.raises(DriftRefused, match=f"{measure} nan"):
        Drift(2, **ALIKE | {measure: math.nan}).require(settings, "m", "2")


@pytest.mark.parametrize("measure", ALIKE)
def test_a_figure_at_its_threshold_passes(measure):
    settings = ServerSettings(store="s", **THRESHOLDS[measure])
    (threshold,) = THRESHOLDS[measure].values()
    Drift(2, **ALIKE | {measure: threshold}).require(settings, "m", "2")
