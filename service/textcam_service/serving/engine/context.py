"""Context of a request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass

from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import Degradation, ExplainJob, HeatmapForm
from textcam_service.serving.engine.method_runner import MethodPlan
from textcam_service.serving.telemetry.record import RequestRecord


@dataclass(frozen=True)
class RequestContext:
    """One request on its way through the engine.

    Attributes:
        job: The job, degraded if the server is under pressure.
        degradations: Parts that the job leaves out.
        plan: How its CAM method runs.
        deadline: On time.monotonic()'s clock; None: none.
        max_wait_s: Longest time until its response that is admitted.
        lane: Its lane.
        record: Its record.
        token: Cancelled once the result is no longer awaited.
    """

    job: ExplainJob
    degradations: tuple[Degradation, ...]
    plan: MethodPlan
    deadline: float | None
    max_wait_s: float
    lane: Lane
    record: RequestRecord
    token: CancellationToken

    @property
    def kind(self) -> tuple[HeatmapForm, bool]:
        """Kind of response; responses of one kind take much the same time to make."""
        return self.job.heatmap, self.job.target_count > 1
