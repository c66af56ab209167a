"""Agreement of versions against the canary's thresholds."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from textcam_service.core.agreement import ExplanationAgreement
from textcam_service.core.types import Rationale, SaliencyGroup
from textcam_service.errors import DriftRefused
from textcam_service.serving.engine.targets import ClassScores
from textcam_service.serving.registry import canary
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


def explained(logits, names, *, multi_label):
    """The part of a result that a comparison reads; a flat map and no phrases."""
    nothing, flat = np.zeros(0, np.int64), np.zeros((2, 2), np.float32)
    rest = SaliencyGroup(-1, nothing, 1.0, 1.0, 0.0, flat)
    return SimpleNamespace(
        bundle=SimpleNamespace(class_names=names, multi_label=multi_label),
        scores=ClassScores(np.array(logits), names, multi_label=multi_label),
        explanations=[SimpleNamespace(rationale=Rationale(0, 0, 0, flat, (), (), rest))],
    )


@pytest.mark.parametrize(
    ("names", "kinds", "same"),
    [
        (("ant", "bee"), (True, True), True),  # both labels are present in both
        (("ant", "bee"), (False, True), False),
        (("ant", "bee"), (False, False), False),
        (("bee", "ant"), (True, True), True),  # other classes are compared by name
    ],
)
def test_the_highest_class_is_compared_by_what_labels_mean(names, kinds, same):
    old = explained([2.0, 1.0], ("ant", "bee"), multi_label=kinds[0])
    new = explained([1.0, 2.0], names, multi_label=kinds[1])
    assert canary._agreement(old, new).top1 == same
