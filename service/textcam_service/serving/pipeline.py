"""The flow of a request, top to bottom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeAlias, TypeVar

import numpy as np
from textcam.v1 import explainer_pb2 as pb

from textcam_service import imaging
from textcam_service.backbone import usable_cpus
from textcam_service.bundle import ModelBundle
from textcam_service.core.cam import softmax
from textcam_service.core.rationale import sentence
from textcam_service.core.types import Float32Array, Prediction
from textcam_service.serving import convert
from textcam_service.serving.batcher import Batcher, BatchLimits
from textcam_service.serving.convert import Classes, Job, Scene, TopK
from textcam_service.serving.metrics import Metrics
from textcam_service.settings import ServerSettings

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Inferred: TypeAlias = tuple[Float32Array, Float32Array]


class Pipeline:
    """One bundle, its batcher and its threads."""

    def __init__(self, bundle: ModelBundle, settings: ServerSettings, metrics: Metrics) -> None:
        self.bundle = bundle
        self._settings = settings
        self._metrics = metrics
        self._limits = imaging.ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        # Decoding and explaining share threads; the session has one of its own.
        self._workers = ThreadPoolExecutor(
            settings.decode_threads or usable_cpus(), thread_name_prefix="textcam-worker"
        )
        self._session_thread = ThreadPoolExecutor(1, thread_name_prefix="textcam-session")
        self._batcher: Batcher[Float32Array, Inferred] = Batcher(
            self._infer,
            BatchLimits(settings.max_batch, settings.max_delay_ms / 1000, settings.max_queue),
            self._session_thread,
            metrics,
        )

    async def start(self) -> None:
        """Warm up: run one image and a full batch, then explain one image."""
        size = self.bundle.backbone.manifest.preprocessing
        blank = np.zeros((3, size.height, size.width), np.float32)
        for count in sorted({1, self._settings.max_batch}):
            await _run(self._session_thread, self._infer, [blank] * count)
        await self._batcher.start()
        pixels = pb.Tensor(
            dtype=pb.Tensor.D_TYPE_UINT8, shape=[64, 64, 3], data=bytes(range(192)) * 64
        )
        await self.explain(pb.ExplainRequest(pixels=pixels), deadline=None)

    async def close(self, timeout: float) -> None:
        """Finish what is queued within `timeout` seconds, then stop the threads."""
        await self._batcher.drain(timeout)
        self._workers.shutdown(wait=False)
        self._session_thread.shutdown(wait=False)

    async def explain(
        self, request: pb.ExplainRequest, deadline: float | None
    ) -> pb.ExplainResponse:
        """Answer one request.

        Args:
            request: As it came.
            deadline: On time.monotonic()'s clock; None: none.

        Raises:
            TextCamError: See convert.read_request, imaging and Batcher.submit.
        """
        job = convert.read_request(request, self.bundle, self._settings)
        started = time.monotonic()
        with self._batcher.announce():
            scene, network_input = await _run(self._workers, self._decode, job)
            decoded = time.monotonic()
        inferred = await self._batcher.submit(network_input, deadline)
        stages = {
            "decode": decoded - started,
            "queue": inferred.queue_s,
            "inference": inferred.run_s,
        }
        return await _run(self._workers, self._answer, request, job, scene, inferred.result, stages)

    def _decode(self, job: Job) -> tuple[Scene, Float32Array]:
        if job.encoded is not None:
            image = imaging.decode(job.encoded, self._limits)
        else:
            assert job.pixels is not None  # noqa: S101 - convert.read_request saw to it
            image = imaging.from_pixels(job.pixels, self._limits)
        self._metrics.images.labels(image.decoder).inc()
        network_input, crop = imaging.prepare(
            image.pixels, self.bundle.backbone.manifest.preprocessing
        )
        return Scene(image.pixels, self.bundle.backbone.on_grid(crop), image.decoder), network_input

    def _infer(self, images: list[Float32Array]) -> list[Inferred]:
        logits, maps = self.bundle.backbone.run(np.stack(images))
        return list(zip(logits, maps, strict=True))

    def _answer(
        self,
        request: pb.ExplainRequest,
        job: Job,
        scene: Scene,
        inferred: Inferred,
        stages: dict[str, float],
    ) -> pb.ExplainResponse:
        logits, maps = inferred
        started = time.monotonic()
        ranked = self._ranked(logits)
        by_index = {prediction.class_index: prediction for prediction in ranked}
        explained = [
            (target, against, self.bundle.explain(maps, target, against, job.phrases))
            for target, against in _targets(job.target, ranked, by_index)
        ]
        stages["explain"] = time.monotonic() - started
        started = time.monotonic()
        messages = [
            convert.explanation_message(
                target, against, rationale, sentence(target, against, rationale), job, scene
            )
            for target, against, rationale in explained
        ]
        response = convert.response_message(
            request.request_id, ranked[: job.predictions], messages, scene, self.bundle, stages
        )
        stages["encode"] = time.monotonic() - started
        for stage, seconds in stages.items():
            self._metrics.stage_seconds.labels(stage).observe(seconds)
        return response

    def _ranked(self, logits: Float32Array) -> list[Prediction]:
        probabilities = softmax(logits)
        return [
            Prediction(
                int(index),
                self.bundle.class_names[index],
                float(probabilities[index]),
                float(logits[index]),
            )
            for index in np.argsort(-logits, kind="stable")
        ]


async def _run(
    executor: ThreadPoolExecutor,
    function: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, partial(function, *args, **kwargs))


def _targets(
    target: TopK | Classes, ranked: list[Prediction], by_index: dict[int, Prediction]
) -> list[tuple[Prediction, Prediction | None]]:
    if isinstance(target, TopK):
        return [(prediction, None) for prediction in ranked[: target.k]]
    against = None if target.against is None else by_index[target.against]
    return [(by_index[index], against) for index in target.indices]
