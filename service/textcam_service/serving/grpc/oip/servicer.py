"""The Open Inference Protocol v2 over the same desk: images in, explanations out as tensors.

Each image of a batch becomes an ExplainRequest (serving/oip_inputs.py); what a platform's standard
client reads are the answer's parts by name (serving/oip_outputs.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import ModelLoading, TextCamError
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.grpc.explainer.servicer import deadline_of
from textcam_service.serving.grpc.oip.outputs import check_bytes, least_bytes, outputs_of, respond
from textcam_service.serving.grpc.oip.requests import (
    IMAGE,
    PIXELS,
    Batch,
    charged_images,
    image_request,
    read_batch,
    read_images,
)
from textcam_service.serving.grpc.oip.tensors import Array
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__

PLATFORM = "textcam"


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """inference.GRPCInferenceService.

    Args:
        desk: Where images are explained.
        settings: See ServerSettings.
        is_ready: Whether a model can take requests; "": whether the server can.
    """

    def __init__(
        self, dataplane: DataPlane, settings: ServerSettings, is_ready: Callable[[str], bool]
    ) -> None:
        self._dataplane = dataplane
        self._settings = settings
        self._is_ready = is_ready

    async def ServerLive(self, request: Any, context: Any) -> oip.ServerLiveResponse:  # noqa: N802
        """Say that the server runs; not counted, for probes ask it."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerReadyResponse:
        """Say whether the server can take requests; not counted, for probes ask it."""
        del request, context
        return oip.ServerReadyResponse(ready=self._is_ready(""))

    async def ModelReady(  # noqa: N802
        self, request: oip.ModelReadyRequest, context: Any
    ) -> oip.ModelReadyResponse:
        """Say whether a model can take requests; NOT_FOUND where it is not served."""
        try:
            bundle = self._dataplane.bundle(
                types_pb.ModelSpec(name=request.name, version=request.version)
            )
            ready = self._is_ready(bundle.name)
        except ModelLoading:
            ready = False
        except TextCamError as error:
            refusal = self._dataplane.fail("ModelReady", error)
            await context.abort_with_status(rpc_status.to_status(refusal))
            raise  # not reached: abort raises
        self._dataplane.count("ModelReady", grpc.StatusCode.OK)
        return oip.ModelReadyResponse(ready=ready)

    async def ServerMetadata(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerMetadataResponse:
        """Name and version of the server."""
        del request, context
        self._dataplane.count("ServerMetadata", grpc.StatusCode.OK)
        return oip.ServerMetadataResponse(name="textcam", version=__version__)

    async def ModelMetadata(  # noqa: N802
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """Describe a model's inputs and outputs; -1: any extent."""
        try:
            bundle = self._dataplane.bundle(
                types_pb.ModelSpec(name=request.name, version=request.version)
            )
        except TextCamError as error:
            refusal = self._dataplane.fail("ModelMetadata", error)
            await context.abort_with_status(rpc_status.to_status(refusal))
            raise  # not reached: abort raises
        self._dataplane.count("ModelMetadata", grpc.StatusCode.OK)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        outputs = outputs_of(bundle, -1).items()
        return oip.ModelMetadataResponse(
            name=bundle.name,
            versions=self._dataplane.models.versions(bundle.name),
            platform=PLATFORM,
            inputs=[
                tensor(name=IMAGE, datatype="BYTES", shape=[-1]),
                tensor(name=PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3]),
            ],
            outputs=[
                tensor(name=name, datatype=kind, shape=[-1, *shape])
                for name, (kind, shape) in outputs
            ],
        )

    async def ModelInfer(  # noqa: N802
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> oip.ModelInferResponse:
        """Explain a batch of images; one that fails, fails the call."""
        answer = await self._infer(request, context)
        if isinstance(answer, Status):
            await context.abort_with_status(rpc_status.to_status(answer))
        assert isinstance(answer, oip.ModelInferResponse)  # noqa: S101 - abort raises
        return answer

    async def _infer(
        self, request: oip.ModelInferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> oip.ModelInferResponse | Status:
        """Answer or say why not; only cancellation escapes."""
        settings = self._settings
        spec = types_pb.ModelSpec(name=request.model_name, version=request.model_version)
        try:
            with ExitStack() as held:
                # One lease for the whole batch: all of it is answered by one version.
                images = charged_images(request, settings)
                engine = held.enter_context(self._dataplane.lease(spec, images))
                bundle = engine.bundle
                batch = read_batch(request, bundle, settings)
                outputs = outputs_of(bundle, batch.template.max_phrases)
                least = least_bytes(outputs, batch.outputs, batch.count)
                check_bytes(least, batch.count, settings.max_message_bytes)
                # Taken in as a whole, and for as long: no image of it is refused for those after,
                # nor for the batch's own.
                most = engine.most_at_once(batch.template.method)
                places = min(
                    batch.count, most, settings.stream_concurrency, settings.max_concurrent
                )
                held.enter_context(self._dataplane.admitted(batch.size, places))
                contents = await asyncio.to_thread(read_images, request, batch)
                answers = await self._answers(batch, contents, places, engine, context)
                if isinstance(answers, Status):
                    return answers
                response = await asyncio.to_thread(
                    respond, request, batch.outputs, outputs, answers, bundle
                )
                check_bytes(response.ByteSize(), batch.count, settings.max_message_bytes)
                return response
        except Exception as error:  # noqa: BLE001 - the last stop: logged, counted, answered
            return self._dataplane.fail("ModelInfer", error, request.id)

    async def _answers(
        self,
        batch: Batch,
        images: Sequence[bytes | Array],
        places: int,
        engine: Engine,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Sequence[pb.ExplainResponse] | Status:
        """Each image's answer, `places` at a time; or why the first that failed did."""
        slots, deadline = asyncio.Semaphore(places), deadline_of(context)
        metadata = context.invocation_metadata() or ()

        async def answer(image: bytes | Array) -> pb.ExplainResponse | Status:
            async with slots:
                one = await asyncio.to_thread(image_request, batch, image)
                return await self._dataplane.answer(
                    "ModelInfer", one, deadline, Lane.INTERACTIVE, metadata, engine
                )

        tasks = [asyncio.create_task(answer(image)) for image in images]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        answers: list[pb.ExplainResponse] = []
        for place, result in enumerate(results):
            if isinstance(result, Status):
                result.message = f"image {place} of {len(images)}: {result.message}"
                return result
            answers.append(result)
        return answers
