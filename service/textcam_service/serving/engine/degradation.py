"""The declared ladder: what an answer leaves out under pressure, where its request allows it."""

from __future__ import annotations

from dataclasses import replace

from textcam.v1 import types_pb2 as types_pb

from textcam_service.serving.grpc.explainer.requests import Classes, Job, TopK

# Part of the queue that is full, and what is left out from there on.
DEGRADATION_LADDER = (
    (0.25, types_pb.DEGRADATION_SMALLER_MAPS),
    (0.5, types_pb.DEGRADATION_NO_GROUPS),
    (0.75, types_pb.DEGRADATION_FEWER_TARGETS),
)


def degrade(job: Job, pressure: float) -> tuple[Job, tuple[types_pb.Degradation, ...]]:
    """A smaller job and what it leaves out, of what it would have had.

    Args:
        job: As it was asked for.
        pressure: How full the queue is, 0 .. 1.
    """
    if not job.may_degrade:
        return job, ()
    smaller, left_out = job, []
    for step, degradation in DEGRADATION_LADDER:
        if pressure >= step and (reduced := _without(degradation, smaller)) != smaller:
            smaller = reduced
            left_out.append(degradation)
    return smaller, tuple(left_out)


def _without(degradation: types_pb.Degradation, job: Job) -> Job:
    if degradation == types_pb.DEGRADATION_SMALLER_MAPS:
        large = job.heatmap in (types_pb.HEATMAP_FORM_IMAGE, types_pb.HEATMAP_FORM_OVERLAY)
        return replace(job, heatmap=types_pb.HEATMAP_FORM_SALIENCY) if large else job
    if degradation == types_pb.DEGRADATION_NO_GROUPS:
        return replace(job, groups=False)
    if isinstance(job.target, TopK):
        return replace(job, target=TopK(1))
    return replace(job, target=Classes(job.target.indices[:1], job.target.reference))
