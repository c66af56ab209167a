"""The gRPC methods: convert, call, convert. Every failure goes through serving.status."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc

from textcam_service.errors import InvalidArgument, TextCamError
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.explainer.responses import model_message, summary_message
from textcam_service.serving.grpc.explainer.stream import Stream
from textcam_service.serving.pagination import read_page
from textcam_service.serving.status import code_of, reason_of, status_of
from textcam_service.settings import ServerSettings


class ExplainerServicer(explainer_pb2_grpc.ExplainerServiceServicer):
    """ExplainerService."""

    def __init__(self, dataplane: DataPlane, settings: ServerSettings) -> None:
        self._dataplane = dataplane
        self._settings = settings

    async def Explain(  # noqa: N802 - gRPC's name
        self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExplainResponse:
        """Explain one image."""
        metadata = context.invocation_metadata() or ()
        answer = await self._dataplane.answer(
            "Explain", request, deadline_of(context), Lane.INTERACTIVE, metadata
        )
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
        metadata = context.invocation_metadata() or ()
        stream = Stream(self._dataplane, self._settings, deadline_of(context), metadata)
        async with aclosing(stream.answers(request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the served models that the caller may know of, page by page."""
        served = [
            each for each in self._dataplane.models.bundles if self._dataplane.shows(each.name)
        ]
        try:
            page, next_page_token = read_page(request, served)
        except InvalidArgument as error:
            refusal = self._dataplane.fail("ListModels", error)
            await context.abort_with_status(rpc_status.to_status(refusal))
            raise  # not reached: abort raises
        self._dataplane.count("ListModels", grpc.StatusCode.OK)
        return pb.ListModelsResponse(
            models=[summary_message(bundle) for bundle in page], next_page_token=next_page_token
        )

    async def GetModel(  # noqa: N802 - gRPC's name
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        """Describe one model."""
        try:
            bundle = self._dataplane.bundle(request.model)
        except TextCamError as error:
            self._dataplane.count("GetModel", code_of(error), reason_of(error))
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
        self._dataplane.count("GetModel", grpc.StatusCode.OK)
        return model_message(bundle)


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """A call's deadline on time.monotonic()'s clock; None: none."""
    remaining = context.time_remaining()
    if remaining == 0:
        # gRPC subtracts two readings of the wall clock, which may have been set in between.
        remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
