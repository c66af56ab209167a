"""Agreement of versions against the canary's thresholds."""

import math
from dataclasses import replace

import pytest
from textcam_service.core.agreement import ExplanationAgreement
from textcam_service.errors import DriftRefused
from textcam_service.serving.registry.canary import check_drift, is_guarded
from textcam_service.settings import ServerSettings

ALIKE = ExplanationAgreement(2, 1.0, 1.0, 1.0, 1.0, 0.0)
THRESHOLDS = {
    "map_correlation": {"canary_min_map_correlation": 0.9},
    "first_phrase": {"canary_min_first_phrase": 0.9},
    "top1": {"canary_min_top1": 0.9},
    "share_difference": {"canary_max_share_difference": 0.1},
}


@pytest.mark.parametrize("measure", THRESHOLDS)
def test_a_measure_that_is_no_number_is_refused(measure):
    """As if a version overflows on one image: a mean with a NaN in it is one."""
    settings = ServerSettings(store="s", **THRESHOLDS[measure])
    check_drift(ALIKE, settings, "m", "2")
    with pytest.raises(DriftRefused, match=f"over 2 images: {measure} nan.*model use m 2 --store"):
        check_drift(replace(ALIKE, **{measure: math.nan}), settings, "m", "2")


@pytest.mark.parametrize("measure", THRESHOLDS)
def test_a_measure_at_its_threshold_passes_and_one_past_it_does_not(measure):
    settings = ServerSettings(store="s", **THRESHOLDS[measure])
    (threshold,) = THRESHOLDS[measure].values()
    check_drift(replace(ALIKE, **{measure: threshold}), settings, "m", "2")
    worse = 0.01 if measure == "share_difference" else -0.01
    with pytest.raises(DriftRefused, match=measure):
        check_drift(replace(ALIKE, **{measure: threshold + worse}), settings, "m", "2")


def test_any_threshold_guards_a_switch_and_none_does_by_default():
    assert not is_guarded(ServerSettings())
    assert all(is_guarded(ServerSettings(**own)) for own in THRESHOLDS.values())
