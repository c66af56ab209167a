"""Kinds of responses, by which their latency is learnt."""

import math

import pytest
from small_results import job
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.context import RequestContext
from textcam_service.serving.engine.jobs import HeatmapForm, TopK
from textcam_service.serving.engine.method_runner import MethodPlan
from textcam_service.serving.telemetry.record import RequestRecord


def kind(**changes):
    return RequestContext(
        job=job(**changes),
        degradations=(),
        plan=MethodPlan.INLINE,
        deadline=None,
        max_wait_s=math.inf,
        lane=Lane.AUDIT,
        record=RequestRecord(""),
        token=CancellationToken(None),
    ).kind


@pytest.mark.parametrize("changes", [{"heatmap": HeatmapForm.OVERLAY}, {"target": TopK(2)}])
def test_a_kind_is_the_heatmaps_form_and_one_target_or_several(changes):
    assert kind(**changes) != kind()
    assert kind(target=TopK(2)) == kind(target=TopK(9))
