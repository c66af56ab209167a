"""The engine of one model: its queue, its threads, and the life of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from textcam_service.core.methods import Method
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import UInt8Array
from textcam_service.errors import InvalidRequest, InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.runtime.output import BackboneOutput
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.context import RequestContext
from textcam_service.serving.engine.degradation import degrade
from textcam_service.serving.engine.encoding import Encoder, IdentityEncoder
from textcam_service.serving.engine.executors import PriorityExecutor, run_in_executor
from textcam_service.serving.engine.explain import BatchItem, ExplainFlow
from textcam_service.serving.engine.jobs import ExplainJob
from textcam_service.serving.engine.method_runner import MethodPlan, MethodRunner
from textcam_service.serving.telemetry.metrics import Metrics, QueueEvents
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import NoopTracer, Tracer
from textcam_service.settings import ServerSettings

_T = TypeVar("_T")
_WARM_UP_SIDE = 64


class Engine:
    """Explains images with one model.

    Args:
        bundle: The model.
        settings: See ServerSettings.
        metrics: Counters.
        on_health_change: Called with False when images cannot be run, and with True when they can
            be again.
        tracer: Records each batch; None: no traces.

    Attributes:
        bundle: The served model.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        settings: ServerSettings,
        metrics: Metrics,
        on_health_change: Callable[[bool], None] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.bundle = bundle
        self._tracer = tracer or NoopTracer()
        self._settings = settings
        # Decoding and explaining share threads; the session has one of its own.
        self._threads = PriorityExecutor(settings.decode_threads or usable_cpus())
        self._session_thread = ThreadPoolExecutor(1, thread_name_prefix="textcam-session")
        self._methods = MethodRunner(
            bundle.backbone,
            self._session_thread,
            self._threads.responding,
            # Each admitted request asks for one gradient per target at a time. No gradient is
            # refused for lack of room. It is refused if its deadline would pass because of those
            # ahead of it.
            BatchLimits(settings.max_batch, 0.0, settings.max_concurrent * settings.max_targets),
            settings.max_long_requests,
            metrics,
        )
        self._batcher: Batcher[BatchItem, BackboneOutput] = Batcher(
            self._run_batch,
            BatchLimits(
                settings.max_batch,
                settings.max_delay_ms / 1000,
                settings.max_queue,
                settings.audit_share,
            ),
            self._session_thread,
            QueueEvents(metrics),
            self._run_blank,
            on_health_change,
            self._on_batch_done,
        )
        self._flow = ExplainFlow(
            bundle, settings, metrics, self._batcher, self._methods, self._threads
        )

    async def start(self) -> None:
        """Warm up and measure: each bucket, one image and a full batch, then explain one image.

        Raises:
            InvalidSettings: The settings do not allow what the model's default method takes.
        """
        await run_in_executor(self._session_thread, self.bundle.backbone.warm)
        for count in sorted({1, self._settings.max_batch}):
            await self._run_blank(count)  # the first run of a size also sets it up
            began = time.monotonic()
            await self._run_blank(count)
            self._batcher.seed_latency(count, time.monotonic() - began)
        await self._batcher.start()
        await self._methods.start()
        pixels = np.resize(np.arange(192, dtype=np.uint8), (_WARM_UP_SIDE, _WARM_UP_SIDE, 3))
        try:
            await self.explain(self.default_job(pixels), IdentityEncoder())
        except InvalidRequest as error:
            raise InvalidSettings(
                f"no image can be explained with these settings: {error}"
            ) from error

    async def close(self, timeout: float) -> None:
        """Finish queued work within `timeout` seconds, then stop the threads."""
        await self._batcher.drain(timeout)
        await self._methods.drain(timeout)
        self._threads.shutdown()
        self._session_thread.shutdown(wait=False)

    def has_room(self, lane: Lane) -> bool:
        """Return True if a lane's queue takes another image now."""
        return self._batcher.pressure(lane) < 1

    def max_concurrency(self, method: Method) -> int:
        """Return the number of requests of a CAM method that are admitted at a time, if alone."""
        queued = self._settings.max_queue
        is_long = self._methods.plan(method) is MethodPlan.LONG
        return min(queued, self._settings.max_long_requests) if is_long else queued

    def default_job(self, image: bytes | UInt8Array) -> ExplainJob:
        """Return the job of a request that gives only its image."""
        return ExplainJob(
            image, self.bundle.default_method, PhraseFilter(self._settings.default_phrases)
        )

    async def explain(
        self,
        job: ExplainJob,
        encoder: Encoder[_T],
        deadline: float | None = None,
        lane: Lane = Lane.INTERACTIVE,
        record: RequestRecord | None = None,
        max_wait_s: float = math.inf,
    ) -> _T:
        """Explain one image.

        Args:
            job: The image, and the explanation to make.
            encoder: Encodes the result.
            deadline: Deadline on time.monotonic()'s clock; None: none.
            lane: The request's lane.
            record: Record of the stages and their times; None: this is not a client's request, and
                is not counted as one.
            max_wait_s: Maximum seconds; the job is refused if the jobs ahead would make it take
                longer.

        Raises:
            TextCamError: See MethodRunner.check_passes, MethodRunner.reserve and ExplainFlow.run.
        """
        methods = self._methods
        methods.check_passes(job.method, job.target_count, self._settings.max_passes)
        job, degradations = degrade(job, self._batcher.pressure(lane))
        request = RequestContext(
            job=job,
            degradations=degradations,
            plan=methods.plan(job.method),
            deadline=deadline,
            max_wait_s=max_wait_s,
            lane=lane,
            record=record or RequestRecord(""),
            token=CancellationToken(deadline),
        )
        request.record.model, request.record.version = self.bundle.name, self.bundle.version
        request.record.cam_method = job.method.name
        with methods.reserve(request.plan):
            return await self._flow.run(request, encoder)

    async def _run_blank(self, count: int = 1) -> None:
        """Run blank images; raises the session's errors."""
        size = self.bundle.backbone.manifest.preprocessing
        blank = np.zeros((3, size.height, size.width), np.float32)
        item = (blank, RequestRecord(""))
        await run_in_executor(self._session_thread, self._run_batch, [item] * count)

    def _run_batch(self, items: list[BatchItem]) -> list[BackboneOutput]:
        """Run the network; called in the session's thread."""
        return self.bundle.backbone.forward(np.stack([image for image, _ in items]))

    def _on_batch_done(
        self, items: list[BatchItem], began: float, seconds: float, failed: bool
    ) -> None:
        """Called when a batch has run: note it in its requests' records and traces."""
        records, provider = [record for _, record in items], self.bundle.backbone.execution_provider
        for record in records:
            record.batch_size = len(items)
        self._tracer.batch(records, provider, began, seconds, failed)
