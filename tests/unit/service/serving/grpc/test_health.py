"""The health service, without a model."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub
from textcam_service.serving.grpc import health as health_module
from textcam_service.serving.grpc.health import Health

STATUS = pb.HealthCheckResponse


@asynccontextmanager
async def served(health):
    server = grpc.aio.server()
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield HealthStub(channel)
    await server.stop(0)


async def test_a_check_follows_each_change():
    health = Health()
    async with served(health) as stub:
        assert (await stub.Check(pb.HealthCheckRequest())).status == STATUS.NOT_SERVING
        health.set("", True)
        assert (await stub.Check(pb.HealthCheckRequest())).status == STATUS.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="health of service 'x' is unknown") as no:
            await stub.Check(pb.HealthCheckRequest(service="x"))
        assert no.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_reports_changes_alone_and_ends_with_the_server():
    health = Health()
    async with served(health) as stub:
        watch = stub.Watch(pb.HealthCheckRequest(service="m"))
        assert (await watch.read()).status == STATUS.SERVICE_UNKNOWN
        health.set("other", True)
        health.set("m", True)
        assert (await watch.read()).status == STATUS.SERVING
        health.set("m", False)
        health.end()
        assert (await asyncio.wait_for(watch.read(), 5)).status == STATUS.NOT_SERVING
        assert await asyncio.wait_for(watch.read(), 5) is grpc.aio.EOF


async def test_watchers_and_lists_are_bounded(monkeypatch):
    monkeypatch.setattr(health_module, "_MAX_WATCHERS", 1)
    monkeypatch.setattr(health_module, "_MAX_LISTED", 1)
    health = Health()
    async with served(health) as stub:
        first = stub.Watch(pb.HealthCheckRequest())
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError, match="1 clients watch the health") as refused:
            await stub.Watch(pb.HealthCheckRequest()).read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        if hasattr(pb, "HealthListRequest"):
            assert list((await stub.List(pb.HealthListRequest())).statuses) == [""]
            health.set("m", True)
            with pytest.raises(grpc.aio.AioRpcError, match="at most 1; use Check"):
                await stub.List(pb.HealthListRequest())
