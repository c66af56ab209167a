"""The degradation ladder: parts that a response leaves out under pressure, if its job allows it."""

from __future__ import annotations

from dataclasses import replace

from textcam_service.serving.engine.jobs import (
    Classes,
    Degradation,
    ExplainJob,
    HeatmapForm,
    TopK,
)

# Filling of the queue, 0 .. 1, and the part that is left out from there on.
DEGRADATION_LADDER = (
    (0.25, Degradation.SMALLER_MAPS),
    (0.5, Degradation.NO_GROUPS),
    (0.75, Degradation.FEWER_TARGETS),
)


def degrade(job: ExplainJob, pressure: float) -> tuple[ExplainJob, tuple[Degradation, ...]]:
    """Return a smaller job, and the parts that it leaves out of the given one.

    Args:
        job: The job as requested.
        pressure: Filling of the queue, 0 .. 1.
    """
    if not job.may_degrade:
        return job, ()
    smaller, left_out = job, []
    for step, degradation in DEGRADATION_LADDER:
        if pressure >= step and (reduced := _apply(degradation, smaller)) is not smaller:
            smaller = reduced
            left_out.append(degradation)
    return smaller, tuple(left_out)


def _apply(degradation: Degradation, job: ExplainJob) -> ExplainJob:
    """Leave a part out of a job; the job itself if it does not have the part."""
    if degradation is Degradation.SMALLER_MAPS:
        large = job.heatmap in (HeatmapForm.IMAGE, HeatmapForm.OVERLAY)
        return replace(job, heatmap=HeatmapForm.SALIENCY) if large else job
    if degradation is Degradation.NO_GROUPS:
        return replace(job, include_groups=False) if job.include_groups else job
    if job.target_count == 1:
        return job
    one = Classes(job.target.indices[:1]) if isinstance(job.target, Classes) else TopK(1)
    return replace(job, target=one)
