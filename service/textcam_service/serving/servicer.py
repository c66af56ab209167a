"""The gRPC methods: convert, call, convert. Every failure goes through serving.status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc

from textcam_service.errors import InvalidArgument, ServerBusy, ShuttingDown, TextCamError
from textcam_service.serving import convert
from textcam_service.serving.metrics import Metrics
from textcam_service.serving.pipeline import Pipeline
from textcam_service.serving.schedule import Lane
from textcam_service.serving.status import code_of, status_of
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_BUSY_RETRY_S = 0.25
_DRAIN_RETRY_S = 1.0


class ExplainerServicer(explainer_pb2_grpc.ExplainerServiceServicer):
    """ExplainerService over one pipeline."""

    def __init__(self, pipeline: Pipeline, settings: ServerSettings, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._metrics = metrics
        # grpc.aio's own maximum_concurrent_rpcs is known to miscount, hence a count of our own.
        self._in_flight = 0
        self._bytes_in_work = 0
        self._draining = False

    def stop_admitting(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    async def Explain(  # noqa: N802 - gRPC's name
        self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExplainResponse:
        """Explain one image."""
        answer = await self._answer("Explain", request, _deadline(context), Lane.INTERACTIVE)
        if isinstance(answer, Status):
            await context.abort_with_status(rpc_status.to_status(answer))
        assert isinstance(answer, pb.ExplainResponse)  # noqa: S101 - abort raises
        return answer

    async def ExplainStream(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[pb.ExplainStreamRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.ExplainStreamResponse]:
        """Explain many images, answered in order of completion."""
        deadline = _deadline(context)
        slots = asyncio.Semaphore(self._settings.stream_concurrency)
        answers: asyncio.Queue[pb.ExplainStreamResponse | None] = asyncio.Queue()
        seen: set[str] = set()
        tasks: set[asyncio.Task[None]] = set()

        async def answer(request: pb.ExplainRequest) -> None:
            fault = _stream_fault(request.request_id, seen)
            seen.add(request.request_id)
            result = fault or await self._answer("ExplainStream", request, deadline, Lane.AUDIT)
            failed = isinstance(result, Status)
            part = {"error": result} if failed else {"response": result}
            answers.put_nowait(pb.ExplainStreamResponse(request_id=request.request_id, **part))

        async def read() -> None:
            try:
                async for item in request_iterator:
                    await slots.acquire()
                    task = asyncio.create_task(answer(item.request))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.gather(*tasks)
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (ready := await answers.get()) is not None:
                yield ready
                # A slot is free once its answer was taken: a slow reader slows the work.
                slots.release()
            await reader
        finally:
            for task in (reader, *tasks):
                task.cancel()

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the served models."""
        del request, context
        self._count("ListModels", grpc.StatusCode.OK)
        return pb.ListModelsResponse(models=[convert.summary_message(self._pipeline.bundle)])

    async def GetModel(  # noqa: N802 - gRPC's name
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        """Describe one model."""
        try:
            convert.read_model(request.model, self._pipeline.bundle)
        except TextCamError as error:
            self._count("GetModel", code_of(error))
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
        self._count("GetModel", grpc.StatusCode.OK)
        return convert.model_message(self._pipeline.bundle)

    async def _answer(
        self, method: str, request: pb.ExplainRequest, deadline: float | None, lane: Lane
    ) -> pb.ExplainResponse | Status:
        """Answer or say why not; only cancellation escapes."""
        try:
            with self._admitted(request.ByteSize()):
                response = await self._pipeline.explain(
                    request, deadline, convert.read_lane(request.lane, lane)
                )
        except asyncio.CancelledError:
            self._count(method, grpc.StatusCode.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - the last stop: logged, counted, answered
            if not isinstance(error, TextCamError):
                self._metrics.unexpected.inc()
                _log.exception("request '%s' failed unexpectedly", request.request_id)
            self._count(method, code_of(error))
            return status_of(error)
        self._count(method, grpc.StatusCode.OK)
        return response

    @contextmanager
    def _admitted(self, size: int) -> Iterator[None]:
        if self._draining:
            raise ShuttingDown(
                "the server shuts down; another replica will answer", retry_after_s=_DRAIN_RETRY_S
            )
        full = self._in_flight >= self._settings.max_concurrent
        if full or self._bytes_in_work + size > self._settings.max_bytes_in_work:
            error = ServerBusy(
                f"{self._in_flight} requests of {self._bytes_in_work:,} bytes are in work, the "
                "most this server takes; try again shortly",
                retry_after_s=_BUSY_RETRY_S,
            )
            self._metrics.on_rejected(error.reason)
            raise error
        self._count_in_work(1, size)
        try:
            yield
        finally:
            self._count_in_work(-1, -size)

    def _count_in_work(self, requests: int, size: int) -> None:
        self._in_flight += requests
        self._bytes_in_work += size
        self._metrics.in_flight.set(self._in_flight)

    def _count(self, method: str, code: grpc.StatusCode) -> None:
        self._metrics.requests.labels(method, code.name).inc()


def _deadline(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _stream_fault(request_id: str, seen: set[str]) -> Status | None:
    if request_id and request_id not in seen:
        return None
    fault = "is used twice in this stream" if request_id else "is missing"
    return status_of(
        InvalidArgument(
            f"the request id '{request_id}' {fault}; answers are matched by it",
            field="request.request_id",
        )
    )
