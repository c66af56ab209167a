"""The methods of the Open Inference Protocol v2: images in, explanations out as tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc

from textcam_service.errors import ModelLoading
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane, RpcRequest
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.grpc.context import abort, deadline_of
from textcam_service.serving.grpc.oip.outputs import (
    BatchOutputs,
    check_bytes,
    least_bytes,
    output_specs,
    write_response,
)
from textcam_service.serving.grpc.oip.requests import (
    IMAGE,
    PIXELS,
    Batch,
    charged_images,
    read_batch,
    read_images,
    read_model,
)
from textcam_service.serving.grpc.oip.tensors import Array
from textcam_service.serving.status import status_of
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__

PLATFORM = "textcam"


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """inference.GRPCInferenceService.

    Args:
        dataplane: Admits requests and leases models.
        settings: See ServerSettings.
        is_ready: Returns True if a model can take requests; "": if the server can.
    """

    def __init__(
        self, dataplane: DataPlane, settings: ServerSettings, is_ready: Callable[[str], bool]
    ) -> None:
        self._dataplane = dataplane
        self._settings = settings
        self._is_ready = is_ready

    async def ServerLive(self, request: Any, context: Any) -> oip.ServerLiveResponse:  # noqa: N802
        """Report that the server runs; not counted, because probes call it."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerReadyResponse:
        """Report if the server can take requests; not counted, because probes call it."""
        del request, context
        return oip.ServerReadyResponse(ready=self._is_ready(""))

    async def ModelReady(  # noqa: N802
        self, request: oip.ModelReadyRequest, context: Any
    ) -> oip.ModelReadyResponse:
        """Report if a model can take requests; NOT_FOUND if it is not served."""
        try:
            with self._dataplane.counted("ModelReady"):
                return oip.ModelReadyResponse(ready=self._is_model_ready(request))
        except Exception as error:  # noqa: BLE001 - counted; the client gets its status
            await abort(context, error)

    def _is_model_ready(self, request: oip.ModelReadyRequest) -> bool:
        try:
            bundle = self._dataplane.model(read_model(request.name, request.version))
        except ModelLoading:
            return False
        return self._is_ready(bundle.name)

    async def ServerMetadata(  # noqa: N802
        self, request: Any, context: Any
    ) -> oip.ServerMetadataResponse:
        """Return name and version of the server."""
        del request, context
        with self._dataplane.counted("ServerMetadata"):
            return oip.ServerMetadataResponse(name="textcam", version=__version__)

    async def ModelMetadata(  # noqa: N802
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """Describe a model's inputs and outputs; -1: any extent."""
        try:
            with self._dataplane.counted("ModelMetadata"):
                return self._metadata(request)
        except Exception as error:  # noqa: BLE001 - counted; the client gets its status
            await abort(context, error)

    def _metadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        bundle = self._dataplane.model(read_model(request.name, request.version))
        tensor = oip.ModelMetadataResponse.TensorMetadata
        outputs = output_specs(bundle, -1).items()
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
        """Explain a batch of images; if one fails, the call fails."""
        call = _call(request, context)
        try:
            with self._dataplane.failures_counted("ModelInfer", request.id):
                response = await self._infer(request, call)
        except Exception as error:  # noqa: BLE001 - counted; the client gets its status
            await abort(context, error)
        if isinstance(response, Status):
            await abort(context, response)
        return response

    async def _infer(
        self, request: oip.ModelInferRequest, call: RpcRequest
    ) -> oip.ModelInferResponse | Status:
        """Return the response, or the status of the first image that failed."""
        settings = self._settings
        images = charged_images(request, settings)
        # One lease for the whole batch: one version explains all of it.
        with self._dataplane.lease(call.model, images) as engine:
            batch = read_batch(request, engine.bundle, settings)
            specs = output_specs(engine.bundle, batch.template.phrase_filter.max_phrases)
            least = least_bytes(specs, batch.outputs, batch.count)
            check_bytes(least, batch.count, settings.max_message_bytes)
            # The batch is admitted as a whole, until its end. So none of its images is refused
            # because of later requests or of its other images.
            concurrency = min(
                batch.count,
                engine.max_concurrency(batch.template.method),
                settings.stream_concurrency,
                settings.max_concurrent,
            )
            with self._dataplane.admission.admit(batch.size, concurrency):
                contents = await asyncio.to_thread(read_images, request, batch)
                outputs = BatchOutputs(batch.outputs, specs, batch.count)
                failure = await self._explain(batch, contents, concurrency, engine, outputs, call)
                if failure is not None:
                    return failure
                response = await asyncio.to_thread(
                    write_response, request, outputs, engine.bundle, batch.template.method
                )
            check_bytes(response.ByteSize(), batch.count, settings.max_message_bytes)
            return response

    async def _explain(
        self,
        batch: Batch,
        images: Sequence[bytes | Array],
        concurrency: int,
        engine: Engine,
        outputs: BatchOutputs,
        call: RpcRequest,
    ) -> Status | None:
        """Explain all images, `concurrency` at a time; return the first failure's status."""
        slots = asyncio.Semaphore(concurrency)

        async def explain(index: int, image: bytes | Array) -> None:
            job, encoder = batch.job(image), outputs.encoder(index)

            async def work(engine: Engine, record: RequestRecord) -> None:
                record.lane = Lane.INTERACTIVE.name.lower()
                await engine.explain(job, encoder, call.deadline, Lane.INTERACTIVE, record)

            async with slots:
                size = len(image) if isinstance(image, bytes) else image.nbytes
                await self._dataplane.handle_part(replace(call, size=size), engine, work)

        tasks = [asyncio.create_task(explain(*each)) for each in enumerate(images)]
        try:
            failures = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        for index, failure in enumerate(failures):
            if failure is not None:
                status = status_of(failure)
                status.message = f"image {index} of {len(images)}: {status.message}"
                return status
        return None


def _call(request: oip.ModelInferRequest, context: Any) -> RpcRequest:
    """Return the part of a call that its images share."""
    return RpcRequest(
        "ModelInfer",
        read_model(request.model_name, request.model_version),
        request_id=request.id,
        deadline=deadline_of(context),
        metadata=context.invocation_metadata() or (),
    )
