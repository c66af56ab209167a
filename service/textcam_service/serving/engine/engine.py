"""The flow of a request, top to bottom."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.core.methods import MethodInput
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.rationale import sentence
from textcam_service.core.types import Float32Array, Prediction
from textcam_service.errors import DeadlineExpired, InvalidRequest, InvalidSettings
from textcam_service.imaging import decoding
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import make_rationale, method_input
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.runtime.output import BackboneOutput
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.queues import BatchLimits
from textcam_service.serving.batching.scheduling import Lane, ResponseLatency
from textcam_service.serving.engine.degradation import degrade
from textcam_service.serving.engine.executors import PriorityExecutor
from textcam_service.serving.engine.method_runner import MethodResult, MethodRunner, run
from textcam_service.serving.grpc.explainer import requests, responses
from textcam_service.serving.grpc.explainer.heatmaps import HeatmapEncoder, ImageInfo
from textcam_service.serving.grpc.explainer.requests import Classes, Job, TopK
from textcam_service.serving.telemetry.metrics import Metrics, QueueEvents
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import NoopTracer, Tracer
from textcam_service.settings import ServerSettings

# What is explained, and rather than what.
_Target: TypeAlias = tuple[Prediction, Prediction | None]
# What waits for inference, and on whose behalf.
_Waiting: TypeAlias = tuple[Float32Array, RequestRecord]
_Answer = TypeVar("_Answer")
_WAY_BACK_S = 0.01  # what an answer takes to a caller that is near


async def _all(work: Iterable[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    """Await all at a time; where one fails, the others end with it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class Engine:
    """One bundle, its batcher and its threads.

    Args:
        bundle: What is served.
        settings: See ServerSettings.
        metrics: What to count in.
        tell_health: Told False while images cannot be run, and True once they can be again.
        tracer: Told of each batch.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        settings: ServerSettings,
        metrics: Metrics,
        tell_health: Callable[[bool], None] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.bundle = bundle
        self._tracer = tracer or NoopTracer()
        self._settings = settings
        self._metrics = metrics
        self._limits = decoding.ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        # Decoding and explaining share threads; the session has one of its own.
        self._threads = PriorityExecutor(settings.decode_threads or usable_cpus())
        self._session_thread = ThreadPoolExecutor(1, thread_name_prefix="textcam-session")
        self._conversations = MethodRunner(
            bundle.backbone,
            self._session_thread,
            self._threads.answering,
            # Each admitted request asks for one gradient per target at a time: none is refused for
            # want of room, but one is where by those ahead of it its deadline would pass.
            BatchLimits(settings.max_batch, 0.0, settings.max_concurrent * settings.max_targets),
            settings.max_long_requests,
            metrics,
        )
        self._batcher: Batcher[_Waiting, BackboneOutput] = Batcher(
            self._infer,
            BatchLimits(
                settings.max_batch,
                settings.max_delay_ms / 1000,
                settings.max_queue,
                settings.audit_share,
            ),
            self._session_thread,
            QueueEvents(metrics),
            self._probe,
            tell_health,
            self._tell_run,
        )
        self._answer_times = ResponseLatency()

    async def start(self) -> None:
        """Warm up and measure: each bucket, one image and a full batch, then explain one image.

        Raises:
            InvalidSettings: The settings do not allow what the model's default method takes.
        """
        await run(self._session_thread, self.bundle.backbone.warm)
        for count in sorted({1, self._settings.max_batch}):
            await self._probe(count)  # the first run of a size also sets it up
            began = time.monotonic()
            await self._probe(count)
            self._batcher.expect(count, time.monotonic() - began)
        await self._batcher.start()
        await self._conversations.start()
        pixels = types_pb.Tensor(
            dtype=types_pb.Tensor.D_TYPE_UINT8, shape=[64, 64, 3], data=bytes(range(192)) * 64
        )
        try:
            await self.explain(pb.ExplainRequest(pixels=pixels), None)
        except InvalidRequest as error:
            raise InvalidSettings(
                f"no image can be explained with these settings: {error}"
            ) from error

    async def close(self, timeout: float) -> None:
        """Finish what is queued within `timeout` seconds, then stop the threads."""
        await self._batcher.drain(timeout)
        await self._conversations.drain(timeout)
        self._threads.shutdown()
        self._session_thread.shutdown(wait=False)

    def has_room(self, lane: Lane) -> bool:
        """Whether a lane's queue takes another image now."""
        return self._batcher.pressure(lane) < 1

    def most_at_once(self, method: types_pb.CamMethod) -> int:
        """How many requests of a CAM method are taken in at a time where there are no others.

        Raises:
            UnsupportedMethod: The model does not answer it.
        """
        is_long = self._conversations.is_long(requests.read_method(method, self.bundle))
        queued = self._settings.max_queue
        return min(queued, self._settings.max_long_requests) if is_long else queued

    async def explain(
        self,
        request: pb.ExplainRequest,
        deadline: float | None,
        lane: Lane = Lane.INTERACTIVE,
        record: RequestRecord | None = None,
        max_wait_s: float = math.inf,
    ) -> pb.ExplainResponse:
        """Answer one request.

        Args:
            request: As it came.
            deadline: On time.monotonic()'s clock; None: none.
            lane: Who waits.
            record: Where to note what is done and how long it takes; None: nobody asks, and the
                metrics of what callers asked for do not count it.
            max_wait_s: It is refused where by the time of those ahead its answer would take longer.

        Raises:
            TextCamError: See requests.read_request, MethodRunner.permit, Batcher.admit, imaging,
                Drawing, Slot.fill and MethodRunner.hold.
        """
        job = requests.read_request(request, self.bundle, self._settings)
        job, left_out = degrade(job, self._batcher.pressure(lane))
        record = record or RequestRecord("")
        record.model, record.version = self.bundle.name, self.bundle.version
        record.cam_method = job.method.name
        with self._conversations.permit(job.method):
            return await self._in_turn(request, job, deadline, lane, max_wait_s, record, left_out)

    async def _in_turn(
        self,
        request: pb.ExplainRequest,
        job: Job,
        deadline: float | None,
        lane: Lane,
        max_wait_s: float,
        record: RequestRecord,
        left_out: tuple[types_pb.Degradation, ...],
    ) -> pb.ExplainResponse:
        kind, now = (job.heatmap, job.target_count > 1), time.monotonic()
        latest, hoped = math.inf if deadline is None else deadline, now + max_wait_s
        due = partial(self._answer_times.due, kind, now=now)
        admitted = self._batcher.admit(due(latest), lane, due(hoped) - now)
        with admitted as place, self._judged(min(latest, hoped)):
            with record.stage("decode"):
                drawing, network_input = await run(
                    self._threads.decoding, self._decode, job, deadline, record
                )
            record.image_width, record.image_height = drawing.scene.width, drawing.scene.height
            drawing.check(job.target_count * (2 if job.groups else 1))  # the whole and the rest
            with record.stage("queue"):  # what stands where no batch takes it
                inferred = await place.fill((network_input, record))
            answering = time.monotonic()
            record.stages["queue"] = (inferred.began - inferred.queue_s, inferred.queue_s)
            record.stages["inference"] = (inferred.began, inferred.run_s)
            opinion = ClassScores(inferred.result.logits, self.bundle.class_names)
            subjects = [
                (target, method_input(self.bundle, inferred.result, network_input, *target))
                for target in opinion.targets(job.target)
            ]
            found: list[MethodResult] = []  # empty: to be found in the thread of what follows
            if self._conversations.takes_turns(job.method):
                with record.stage("attribution"):
                    found = await _all(
                        self._conversations.hold(job.method, subject, inferred.result, deadline)
                        for _, subject in subjects
                    )
            given = (subjects, inferred.result, opinion, found, record, left_out)
            try:
                response = await run(
                    self._threads.answering, self._answer, request, drawing, *given
                )
            except DeadlineExpired:
                self._metrics.on_expired()
                raise
            finally:
                drawing.cancel()
            if not found:
                self._answer_times.observe(kind, time.monotonic() - answering)
        for degradation in left_out:
            step = types_pb.Degradation.Name(degradation).removeprefix("DEGRADATION_").lower()
            self._metrics.degraded.labels(step).inc()
        return response

    @contextmanager
    def _judged(self, deadline: float) -> Iterator[None]:
        """Learn whether a request that was admitted is over in time."""
        try:
            yield
        finally:
            if deadline < math.inf:
                late = time.monotonic() > deadline - _WAY_BACK_S
                self._answer_times.ended(late, self._batcher.full_turn_s)

    async def _probe(self, count: int = 1) -> None:
        """Run blank images; raises what the session raises."""
        size = self.bundle.backbone.manifest.preprocessing
        blank = np.zeros((3, size.height, size.width), np.float32)
        await run(self._session_thread, self._infer, [(blank, RequestRecord(""))] * count)

    def _decode(
        self, job: Job, deadline: float | None, record: RequestRecord
    ) -> tuple[HeatmapEncoder, Float32Array]:
        preprocessing = self.bundle.backbone.manifest.preprocessing
        if job.encoded is not None:
            reduce_for = preprocessing if self._settings.reduced_decode else None
            image = decoding.decode(job.encoded, self._limits, reduce_for)
        else:
            assert job.pixels is not None  # noqa: S101 - requests.read_request saw to it
            image = decoding.from_pixels(job.pixels, self._limits)
        if record.rpc:
            self._metrics.images.labels(image.decoder).inc()
        network_input, crop = decoding.prepare(image, preprocessing)
        grid = self.bundle.backbone.on_grid(crop)
        scene = ImageInfo(image.height, image.width, image.decoder, grid)
        drawing = HeatmapEncoder(job, scene, deadline, self._settings.max_message_bytes)
        return drawing, network_input

    def _infer(self, waiting: list[_Waiting]) -> list[BackboneOutput]:
        return self.bundle.backbone.forward(
            np.stack([network_input for network_input, _ in waiting])
        )

    def _tell_run(self, ran: list[_Waiting], began: float, seconds: float, failed: bool) -> None:
        records, provider = [record for _, record in ran], self.bundle.backbone.execution_provider
        for record in records:
            record.batch_size = len(ran)
        self._tracer.batch(records, provider, began, seconds, failed)

    def _answer(
        self,
        request: pb.ExplainRequest,
        drawing: HeatmapEncoder,
        subjects: list[tuple[_Target, MethodInput]],
        seen: BackboneOutput,
        opinion: ClassScores,
        found: list[MethodResult],
        record: RequestRecord,
        left_out: tuple[types_pb.Degradation, ...],
    ) -> pb.ExplainResponse:
        job, scene = drawing.job, drawing.scene
        if not found:
            held = self._conversations.hold_at_once
            with record.stage("attribution"):
                found = [held(job.method, subject, seen) for _, subject in subjects]
        explained_by, explained = partial(make_rationale, self.bundle, seen), []
        with record.stage("rationale"):
            for (target, subject), own in zip(subjects, found, strict=True):
                drawing.raise_if_cancelled()
                rationale = explained_by(own.terms, *target, job.wish, subject.vertices)
                explained.append((target, own, rationale))
        with record.stage("encode"):
            drawing.check(responses.map_count((one for *_, one in explained), job.groups))
            messages = [
                responses.explanation_message(
                    *target, rationale, sentence(*target, rationale), drawing, own
                )
                for target, own, rationale in explained
            ]
            response = responses.response_message(
                request.request_id,
                opinion.most_probable(job.predictions),
                messages,
                scene,
                self.bundle,
                job.method,
                left_out,
            )
            responses.check_size(response, scene, self._settings.max_message_bytes)
        response.timings.CopyFrom(responses.timings_message(record.stage_seconds))
        for stage, seconds in record.stage_seconds.items() if record.rpc else ():
            self._metrics.stage_seconds.labels(stage).observe(seconds)
        return response


class ClassScores:
    """What the network thinks of an image, class by class."""

    def __init__(self, logits: Float32Array, class_names: Sequence[str]) -> None:
        self._logits = logits
        self._class_names = class_names
        self._ranking = np.argsort(-logits, kind="stable")

    def of(self, index: int) -> Prediction:
        """Return the prediction of one class."""
        return predictions(self._logits, self._class_names, [index])[0]

    def most_probable(self, count: int) -> list[Prediction]:
        """Return the `count` most probable classes, the most probable first."""
        return predictions(self._logits, self._class_names, self._ranking[:count])

    def targets(self, target: TopK | Classes) -> list[_Target]:
        """Return the classes to explain, each with its reference class or None."""
        if isinstance(target, TopK):
            return [(prediction, None) for prediction in self.most_probable(target.k)]
        reference = None if target.reference is None else self.of(target.reference)
        return [(self.of(index), reference) for index in target.indices]
