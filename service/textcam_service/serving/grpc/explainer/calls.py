"""The way of one ExplainRequest: read, call the data plane, encode."""

from __future__ import annotations

import math

from textcam.v1 import explainer_pb2 as pb

from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane, RpcRequest
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.grpc.explainer.requests import read_job, read_lane, read_model
from textcam_service.serving.grpc.explainer.responses import ResponseEncoder, add_timings
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import Metadata
from textcam_service.settings import ServerSettings


class ExplainCalls:
    """Explains the requests of Explain and of ExplainStream's items.

    Args:
        dataplane: Admits requests and leases models.
        settings: Limits.
    """

    def __init__(self, dataplane: DataPlane, settings: ServerSettings) -> None:
        self._dataplane = dataplane
        self._settings = settings
        self._max_wait_s = settings.max_wait_ms / 1000 or math.inf
        self._encoder = ResponseEncoder(settings.max_message_bytes)

    async def explain(
        self, message: pb.ExplainRequest, request: RpcRequest, default_lane: Lane
    ) -> pb.ExplainResponse:
        """Explain one image.

        Args:
            message: The message as received.
            request: Its envelope; see envelope().
            default_lane: Its lane if it names none.

        Raises:
            TextCamError: See DataPlane.handle, read_job and Engine.explain.
        """

        async def call(engine: Engine, record: RequestRecord) -> pb.ExplainResponse:
            lane = read_lane(message.lane, default_lane)
            record.lane = lane.name.lower()
            job = read_job(message, engine.bundle, self._settings)
            # An audit may take as long as its deadline allows.
            max_wait_s = self._max_wait_s if lane is Lane.INTERACTIVE else math.inf
            response = await engine.explain(
                job, self._encoder, request.deadline, lane, record, max_wait_s
            )
            add_timings(response, record.stage_seconds)
            return response

        return await self._dataplane.handle(request, call)


def envelope(
    rpc: str, message: pb.ExplainRequest, deadline: float | None, metadata: Metadata
) -> RpcRequest:
    """Return what the data plane needs to know of a request before it is read."""
    return RpcRequest(
        rpc,
        read_model(message.model),
        request_id=message.request_id,
        size=message.ByteSize(),
        deadline=deadline,
        metadata=metadata,
    )
