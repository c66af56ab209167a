"""The ladder of degradation, step by step."""

import pytest
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.serving.engine.degradation import degrade
from textcam_service.serving.engine.jobs import (
    Classes,
    Contrast,
    Degradation,
    ExplainJob,
    HeatmapForm,
    TopK,
)

SMALLER, NO_GROUPS, FEWER = (
    Degradation.SMALLER_MAPS,
    Degradation.NO_GROUPS,
    Degradation.FEWER_TARGETS,
)


def job(**changes):
    asked = {"target": TopK(3), "heatmap": HeatmapForm.OVERLAY, "may_degrade": True}
    return ExplainJob(b"x", METHODS["cam"], PhraseFilter(5), **(asked | changes))


@pytest.mark.parametrize(
    ("pressure", "left_out"),
    [
        (0.0, ()),
        (0.24, ()),
        (0.25, (SMALLER,)),
        (0.5, (SMALLER, NO_GROUPS)),
        (0.75, (SMALLER, NO_GROUPS, FEWER)),
        (1.0, (SMALLER, NO_GROUPS, FEWER)),
    ],
)
def test_more_is_left_out_the_fuller_the_queue(pressure, left_out):
    smaller, found = degrade(job(), pressure)
    assert found == left_out
    assert (smaller.heatmap == HeatmapForm.SALIENCY) == (SMALLER in left_out)
    assert smaller.include_groups == (NO_GROUPS not in left_out)
    assert smaller.target == TopK(1 if FEWER in left_out else 3)


def test_nothing_is_left_out_of_a_request_that_does_not_allow_it():
    asked = job(may_degrade=False)
    assert degrade(asked, 1.0) == (asked, ())


def test_only_what_was_asked_for_counts_as_left_out():
    asked = job(heatmap=HeatmapForm.NONE, include_groups=False, target=Contrast(4, 7))
    assert degrade(asked, 1.0) == (asked, ())


def test_the_first_of_chosen_classes_stays():
    smaller, _ = degrade(job(target=Classes((4, 7))), 1.0)
    assert smaller.target == Classes((4,))
