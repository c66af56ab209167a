"""The gRPC methods that a client calls."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2_grpc
from textcam.v1 import explainer_pb2_grpc as pb_grpc


class Stub(pb_grpc.ExplainerServiceStub):
    """Stub of TextCAM's service, with `Check` of the standard health service."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]  # generated
        self.Check: Any = health_pb2_grpc.HealthStub(channel).Check
