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
        plan: The way in which its CAM method runs.
        deadline: Deadline on time.monotonic()'s clock; None: none.
        max_wait_s: Longest admissible time until its response, seconds.
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
