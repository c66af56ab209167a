"""The health service: told at once, to each watcher, whatever other watchers do."""

import asyncio
import struct
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_callers import publish, served, until
from small_models import write_model
from textcam_service.serving.grpc import health
from textcam_service.store.models import ModelStore

STATUS = health_pb2.HealthCheckResponse
SOON_S = 10


@pytest.fixture
def store(tmp_path):
    found = ModelStore(tmp_path / "store")
    publish(found, write_model(tmp_path / "made", 0), "1")
    return found


@asynccontextmanager
async def watched(store):
    """A caller of a server, and another's channel to it."""
    async with served(store.root) as caller:
        address = f"127.0.0.1:{caller.server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            yield caller, channel


def watch(channel, service=""):
    return health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=service), timeout=60
    )


async def told(call):
    return (await asyncio.wait_for(call.read(), SOON_S)).status


async def test_a_watcher_is_told_of_a_stop_after_another_has_left(store):
    async with watched(store) as (caller, channel):
        staying, leaving = watch(channel), watch(channel)
        assert [await told(staying), await told(leaving)] == [STATUS.SERVING] * 2
        leaving.cancel()
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(caller.server.stop())
        assert await told(staying) == STATUS.NOT_SERVING
        await asyncio.wait_for(stopping, SOON_S)


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream
    ) + payload  # fmt: skip


def deaf_watch():
    """An HTTP/2 client that watches the health and grants not a byte to hear of it (RFC 9113)."""

    def field(name, value):  # HPACK: a literal that is never indexed, RFC 7541 6.2.3
        return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value

    no_window = struct.pack(">HI", 4, 0)
    headers = b"".join(
        field(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Watch"),
            (b":authority", b"test"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    empty_message = bytes(5)
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, no_window)
        + frame(1, 4, 1, headers)
        + frame(0, 1, 1, empty_message)
    )


async def test_a_watcher_that_never_reads_holds_up_no_stop(store):
    async with served(store.root) as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.server.port)
        writer.write(deaf_watch())
        await writer.drain()
        await until(lambda: caller.server._health._watchers == 1, "it is in")
        await asyncio.wait_for(caller.server.stop(), SOON_S)
        writer.close()
        assert await reader.read()  # the server spoke HTTP/2 with it


async def test_no_more_than_so_many_watch(store, monkeypatch):
    monkeypatch.setattr(health, "_MAX_WATCHERS", 2)
    async with watched(store) as (_, channel):
        first, second = watch(channel), watch(channel)
        assert [await told(first), await told(second)] == [STATUS.SERVING] * 2
        with pytest.raises(grpc.aio.AioRpcError, match="2 clients watch") as refused:
            await told(watch(channel))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        await asyncio.sleep(0.2)
        assert await told(watch(channel)) == STATUS.SERVING


async def test_an_unknown_service_is_not_found_and_may_be_watched(store, tmp_path):
    async with watched(store) as (caller, channel):
        with pytest.raises(grpc.aio.AioRpcError, match="the health of service 'textcam") as no:
            await caller.healthy("textcam.model/new")
        assert no.value.code() is grpc.StatusCode.NOT_FOUND
        watching = watch(channel, "textcam.model/new")
        assert await told(watching) == STATUS.SERVICE_UNKNOWN
        publish(store, write_model(tmp_path / "new", 1), "1", "new")
        await caller.poll()
        assert await told(watching) == STATUS.SERVING
