"""The way of a request through the engine: reserve, decode, infer, attribute, explain, encode."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from textcam_service.core.methods import MethodInput
from textcam_service.core.rationale.sentence import sentence
from textcam_service.core.types import Float32Array
from textcam_service.errors import DeadlineExpired
from textcam_service.imaging import decoding
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import make_rationale, method_input
from textcam_service.runtime.output import BackboneOutput
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.latency import ResponseLatency
from textcam_service.serving.batching.slot import Slot
from textcam_service.serving.engine.context import RequestContext
from textcam_service.serving.engine.digests import activations_digest, pixels_digest
from textcam_service.serving.engine.encoding import Encoder
from textcam_service.serving.engine.executors import PriorityExecutor, run_in_executor
from textcam_service.serving.engine.method_runner import MethodPlan, MethodResult, MethodRunner
from textcam_service.serving.engine.results import ExplainResult, ImageInfo, TargetResult
from textcam_service.serving.engine.targets import ClassScores, Target
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings

# The network's input of an image, and the record of its request.
BatchItem: TypeAlias = tuple[Float32Array, RequestRecord]
_T = TypeVar("_T")
# Results of a method, one per target. An INLINE method runs when it is called.
_Attribution: TypeAlias = Callable[[], list[MethodResult]]
_NETWORK_S = 0.01  # time that a response takes to a client nearby


@dataclass(frozen=True)
class _Decoded:
    """An image, ready for the network."""

    info: ImageInfo
    network_input: Float32Array


@dataclass(frozen=True)
class _Inferred:
    """Output of the network for an image, and the scores to explain."""

    info: ImageInfo
    output: BackboneOutput
    scores: ClassScores
    targets: list[tuple[Target, MethodInput]]


class ExplainFlow:
    """Takes requests of one model from a job to an encoded result.

    Args:
        bundle: The model.
        settings: Limits.
        metrics: Counters.
        batcher: Queue of the network.
        methods: Runs CAM methods.
        threads: Decode and answer.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        settings: ServerSettings,
        metrics: Metrics,
        batcher: Batcher[BatchItem, BackboneOutput],
        methods: MethodRunner,
        threads: PriorityExecutor,
    ) -> None:
        self._bundle = bundle
        self._metrics = metrics
        self._limits = decoding.ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        preprocessing = bundle.backbone.manifest.preprocessing
        self._reduce_for = preprocessing if settings.reduced_decode else None
        self._use_profile = settings.colour_profiles
        self._batcher = batcher
        self._methods = methods
        self._threads = threads
        self._latency = ResponseLatency()

    async def run(self, request: RequestContext, encoder: Encoder[_T]) -> _T:
        """Take a request from its job to its encoded result.

        Raises:
            TextCamError: See Batcher.admit, imaging, Slot.submit, MethodRunner.run and Encoder.
        """
        with self._reserve(request) as slot:
            decoded = await self._decode(request)
            encoder.check(request.job, decoded.info, request.job.min_map_count)
            inferred = await self._infer(request, slot, decoded)
            attribution = await self._attribute(request, inferred)
            response = await self._explain_and_encode(request, inferred, attribution, encoder)
        for degradation in request.degradations:
            self._metrics.degraded.labels(degradation.value).inc()
        return response

    @contextmanager
    def _reserve(self, request: RequestContext) -> Iterator[Slot[BatchItem, BackboneOutput]]:
        """Reserve a slot in the batcher's queue, and learn if the request is over in time."""
        now = time.monotonic()
        latest = math.inf if request.deadline is None else request.deadline
        hoped = now + request.max_wait_s
        due = partial(self._latency.inference_deadline, request.kind, now=now)
        admitted = self._batcher.admit(due(latest), request.lane, due(hoped) - now)
        with admitted as slot, self._track_lateness(min(latest, hoped)):
            yield slot

    @contextmanager
    def _track_lateness(self, deadline: float) -> Iterator[None]:
        """Report to the latency estimate if an admitted request missed its deadline."""
        try:
            yield
        finally:
            if deadline < math.inf:
                late = time.monotonic() > deadline - _NETWORK_S
                self._latency.record_outcome(late, self._batcher.full_cycle_s)

    async def _decode(self, request: RequestContext) -> _Decoded:
        """Decode the image in a thread."""
        with request.record.stage("decode"):
            decoded = await run_in_executor(self._threads.decoding, self._read_image, request)
        record, info = request.record, decoded.info
        record.image_width, record.image_height = info.width, info.height
        return decoded

    async def _infer(
        self, request: RequestContext, slot: Slot[BatchItem, BackboneOutput], decoded: _Decoded
    ) -> _Inferred:
        """Run the network in a batch with other images."""
        record = request.record
        with record.stage("queue"):  # replaced below; stays if no batch takes the image
            inferred = await slot.submit((decoded.network_input, record))
        record.stages["queue"] = (inferred.began - inferred.queue_s, inferred.queue_s)
        record.stages["inference"] = (inferred.began, inferred.run_s)
        output, image = inferred.result, decoded.network_input
        bundle = self._bundle
        scores = ClassScores(output.logits, bundle.class_names, multi_label=bundle.multi_label)
        targets = [
            (target, method_input(bundle, output, image, *target))
            for target in scores.targets(request.job.target)
        ]
        return _Inferred(decoded.info, output, scores, targets)

    async def _attribute(self, request: RequestContext, inferred: _Inferred) -> _Attribution:
        """Run the CAM method in the session; leave an INLINE one to the responding thread."""
        if request.plan is MethodPlan.INLINE:
            return partial(self._attribute_inline, request, inferred)
        with request.record.stage("attribution"):
            results = await _gather(
                self._methods.run(request.job.method, inputs, inferred.output, request.deadline)
                for _, inputs in inferred.targets
            )
        return lambda: results

    def _attribute_inline(self, request: RequestContext, inferred: _Inferred) -> list[MethodResult]:
        """Run the CAM method in the current thread."""
        run, method = self._methods.run_inline, request.job.method
        with request.record.stage("attribution"):
            return [run(method, inputs, inferred.output) for _, inputs in inferred.targets]

    async def _explain_and_encode(
        self,
        request: RequestContext,
        inferred: _Inferred,
        attribution: _Attribution,
        encoder: Encoder[_T],
    ) -> _T:
        """Take the last steps in one thread: a hop between threads takes as long as a step."""

        def finish() -> _T:
            results = attribution()
            explanations = self._explain(request, inferred, results)
            response = self._encode(request, inferred, explanations, encoder)
            self._observe_stages(request.record)
            return response

        with self._responding(request):
            return await run_in_executor(self._threads.responding, finish)

    @contextmanager
    def _responding(self, request: RequestContext) -> Iterator[None]:
        """Cancel the thread's work if its request ends first; learn how long it takes."""
        began = time.monotonic()
        try:
            yield
        except DeadlineExpired:
            self._metrics.on_expired()
            raise
        finally:
            request.token.cancel()
        if request.plan is MethodPlan.INLINE:
            self._latency.observe(request.kind, time.monotonic() - began)

    def _explain(
        self, request: RequestContext, inferred: _Inferred, results: list[MethodResult]
    ) -> list[TargetResult]:
        """Choose phrases and groups for each target."""
        explained = partial(make_rationale, self._bundle, inferred.output)
        explanations = []
        with request.record.stage("rationale"):
            for (target, inputs), own in zip(inferred.targets, results, strict=True):
                request.token.raise_if_cancelled()
                rationale = explained(
                    own.terms, *target, request.job.phrase_filter, inputs.vertices
                )
                said = sentence(*target, rationale)
                passes = own.network_passes, own.head_passes
                explanations.append(TargetResult(*target, rationale, said, *passes))
        return explanations

    def _encode(
        self,
        request: RequestContext,
        inferred: _Inferred,
        explanations: list[TargetResult],
        encoder: Encoder[_T],
    ) -> _T:
        """Encode the result in the client's contract."""
        with request.record.stage("encode"):
            result = ExplainResult(
                request.job,
                self._bundle,
                inferred.info,
                inferred.scores,
                explanations,
                request.degradations,
                activations_digest(inferred.output.activation_maps)
                if request.job.include_channel_evidence
                else "",
            )
            return encoder.encode(result, request.token)

    def _observe_stages(self, record: RequestRecord) -> None:
        """Count the stages of a client's request; warm-ups and canaries have no RPC."""
        for stage, seconds in record.stage_seconds.items() if record.rpc else ():
            self._metrics.stage_seconds.labels(stage).observe(seconds)

    def _read_image(self, request: RequestContext) -> _Decoded:
        """Decode an image and prepare the network's input."""
        given = request.job.image
        if isinstance(given, bytes):
            image = decoding.decode(given, self._limits, self._reduce_for, self._use_profile)
        else:
            image = decoding.from_pixels(given, self._limits)
        if request.record.rpc:
            self._metrics.images.labels(image.decoder).inc()
        backbone = self._bundle.backbone
        network_input, crop = decoding.prepare(image, backbone.manifest.preprocessing)
        grid = backbone.on_grid(crop)
        digest = pixels_digest(image.pixels) if request.job.include_channel_evidence else ""
        size = (image.height, image.width)
        info = ImageInfo(*size, image.decoder, grid, self._use_profile, digest)
        return _Decoded(info, network_input)


async def _gather(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Await all concurrently; if one fails, cancel the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
