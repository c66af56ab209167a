"""The methods of ExplainerService: read, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc

from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.context import abort, deadline_of
from textcam_service.serving.grpc.explainer.calls import ExplainCalls, envelope
from textcam_service.serving.grpc.explainer.pagination import read_page
from textcam_service.serving.grpc.explainer.requests import read_model
from textcam_service.serving.grpc.explainer.responses import model_message, summary_message
from textcam_service.serving.grpc.explainer.stream import Stream
from textcam_service.settings import ServerSettings


class ExplainerServicer(explainer_pb2_grpc.ExplainerServiceServicer):
    """textcam.v1.ExplainerService.

    Args:
        dataplane: Admits requests and leases models.
        settings: Limits.
    """

    def __init__(self, dataplane: DataPlane, settings: ServerSettings) -> None:
        self._dataplane = dataplane
        self._settings = settings
        self._calls = ExplainCalls(dataplane, settings)

    async def Explain(  # noqa: N802 - gRPC's name
        self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExplainResponse:
        """Explain one image."""
        metadata = context.invocation_metadata() or ()
        asked = envelope("Explain", request, deadline_of(context), metadata)
        try:
            return await self._calls.explain(request, asked, Lane.INTERACTIVE)
        except Exception as error:  # noqa: BLE001 - recorded; the client gets its status
            await abort(context, error)

    async def ExplainStream(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[pb.ExplainStreamRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.ExplainStreamResponse]:
        """Explain many images; responses come in order of completion."""
        metadata = context.invocation_metadata() or ()
        stream = Stream(
            self._dataplane, self._calls, self._settings, deadline_of(context), metadata
        )
        async with aclosing(stream.responses(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the served models that the caller may know of, page by page."""
        try:
            with self._dataplane.counted("ListModels"):
                page, token = read_page(request, self._dataplane.visible_models())
                models = [summary_message(bundle) for bundle in page]
                return pb.ListModelsResponse(models=models, next_page_token=token)
        except Exception as error:  # noqa: BLE001 - counted; the client gets its status
            await abort(context, error)

    async def GetModel(  # noqa: N802 - gRPC's name
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        """Describe one model."""
        try:
            with self._dataplane.counted("GetModel"):
                return model_message(self._dataplane.model(read_model(request.model)))
        except Exception as error:  # noqa: BLE001 - counted; the client gets its status
            await abort(context, error)
