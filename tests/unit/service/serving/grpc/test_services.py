"""All services are registered: each answers, and reflection names them."""

from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam_service.serving.grpc.health import Health
from textcam_service.serving.grpc.services import add_services
from textcam_service.settings import ServerSettings


@pytest.fixture
async def channel():
    server, health = grpc.aio.server(), Health()
    health.set("", True)
    add_services(server, SimpleNamespace(), ServerSettings(), health, lambda name: name == "")
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(0)


async def test_health_and_open_inference_answer(channel):
    checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    inference = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    assert (await inference.ServerReady(oip.ServerReadyRequest())).ready


async def test_the_explainer_is_there(channel):
    stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModel(pb.GetModelRequest())
    # The method is served; this test's data plane lacks everything.
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_reflection_names_every_service(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (response,) = [each async for each in stub.ServerReflectionInfo(iter([asked]))]
    names = {service.name for service in response.list_services_response.service}
    assert names == {
        "textcam.v1.ExplainerService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
