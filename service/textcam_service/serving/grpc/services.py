"""Registration of all services with a gRPC server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2_grpc

from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.contract import EXPLAINER, OPEN_INFERENCE
from textcam_service.serving.grpc.explainer.servicer import ExplainerServicer
from textcam_service.serving.grpc.health import SERVICE_NAME as HEALTH
from textcam_service.serving.grpc.health import Health
from textcam_service.serving.grpc.oip.servicer import OpenInferenceServicer
from textcam_service.serving.grpc.reflection import add_reflection
from textcam_service.settings import ServerSettings


def add_services(
    server: Any,
    dataplane: DataPlane,
    settings: ServerSettings,
    health: Health,
    is_serving: Callable[[str], bool],
) -> None:
    """Register the explainer, the Open Inference Protocol, health and reflection.

    Args:
        server: A grpc.aio server that is not started.
        dataplane: Handles the requests.
        settings: See ServerSettings.
        health: The health service.
        is_serving: Returns whether a model is ready, and for "" whether the server is.
    """
    explainer_pb2_grpc.add_ExplainerServiceServicer_to_server(  # type: ignore[no-untyped-call]
        ExplainerServicer(dataplane, settings), server
    )
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        OpenInferenceServicer(dataplane, settings, is_serving), server
    )
    health.add_to(server)
    add_reflection(server, (EXPLAINER, OPEN_INFERENCE, HEALTH))
