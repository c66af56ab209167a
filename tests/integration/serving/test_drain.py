"""A stop waits for answers that are on their way, and for nothing that never ends."""

import asyncio
import io
import socket
from contextlib import asynccontextmanager, suppress

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_callers import until
from PIL import Image
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving import server as serving
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings

LONG_S, SOON_S, BRIEF_S = 300, 20, 0.2
# A guard takes each call as a stream.
OPEN_AND_GUARDED = [{}, {"rate": 1000.0}]


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """What was the patience with answers on their way, whatever drain_seconds said."""
    monkeypatch.setattr(serving, "_LAST_BYTES_S", BRIEF_S)


@asynccontextmanager
async def called(tmp_path, **settings):
    """A server, and a channel to it."""
    async with (
        started(tmp_path, **settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, channel


@asynccontextmanager
async def started(tmp_path, drain_seconds=LONG_S, **more):
    made = write_model(tmp_path, 0)
    bundle = ModelBundle.load("m", made / "backbone", made / "bank", threads=1)
    given = {"name": "m", "port": 0, "metrics_port": -1, "decode_threads": 2, **more}
    server = Server(bundle, ServerSettings(drain_seconds=drain_seconds, **given))
    await server.start()
    try:
        yield server
    finally:
        await asyncio.wait_for(server.stop(), SOON_S)


class Gate:
    """A proxy whose way down can be closed, and that holds next to nothing itself."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def before(self, port):
        async def connected(reader, writer):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            down, up = await asyncio.open_connection(sock=sock, limit=4096)
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(self._pass(down, writer, self.open), self._pass(reader, up))

        proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        finally:
            proxy.close()

    @staticmethod
    async def _pass(reader, writer, gate=None):
        try:
            while block := await reader.read(65536):
                if gate is not None:
                    await gate.wait()
                writer.write(block)
                await writer.drain()
        finally:
            writer.close()


def large():
    """A request whose answer is more than what sockets hold."""
    pixels = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return pb.ExplainRequest(
        request_id="large",
        encoded=file.getvalue(),
        heatmap=types_pb.HEATMAP_FORM_OVERLAY,
        include_groups=False,
    )


@asynccontextmanager
async def large_answer_behind(gate, server):
    """A call whose answer is made, and waits behind the closed gate."""
    async with gate.before(server.port) as address:
        unlimited = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(address, unlimited) as channel:
            stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
            call = stub.Explain(large(), timeout=LONG_S)
            value = server._metrics.registry.get_sample_value
            await until(lambda: value("textcam_requests_in_flight"), "the request", SOON_S)
            gate.open.clear()
            counted = ("textcam_requests_total", {"method": "Explain", "code": "OK"})
            await until(lambda: value(*counted), "the answer", SOON_S)
            yield call


@pytest.mark.parametrize("settings", OPEN_AND_GUARDED)
async def test_an_answer_on_a_slow_link_arrives_within_drain_seconds(tmp_path, settings):
    async with started(tmp_path, **settings) as server:
        gate = Gate()
        async with large_answer_behind(gate, server) as call:
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(10 * BRIEF_S)
            assert not stopping.done()
            gate.open.set()
            answer = await asyncio.wait_for(call, SOON_S)
            assert answer.ByteSize() > 4 * 2**20
            await asyncio.wait_for(stopping, SOON_S)


async def test_an_answer_that_nobody_takes_holds_up_a_stop_no_longer(tmp_path):
    async with started(tmp_path, drain_seconds=1) as server:
        gate = Gate()
        async with large_answer_behind(gate, server) as call:
            await asyncio.wait_for(server.stop(), SOON_S)
            gate.open.set()
            with pytest.raises(grpc.aio.AioRpcError):
                await call


async def test_who_watches_the_health_is_told_of_the_stop_and_let_go(tmp_path):
    async with called(tmp_path) as (server, channel):
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        status = health_pb2.HealthCheckResponse
        assert (await watching.read()).status == status.SERVING
        await asyncio.wait_for(server.stop(), SOON_S)
        assert (await watching.read()).status == status.NOT_SERVING
        assert await watching.read() is grpc.aio.EOF
        assert await watching.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("settings", OPEN_AND_GUARDED)
async def test_a_stream_without_an_item_is_ended_in_words(tmp_path, settings):
    async with called(tmp_path, **settings) as (server, channel):
        stream = explainer_pb2_grpc.ExplainerServiceStub(channel).ExplainStream()
        one = pb.ExplainRequest(request_id="one", encoded=b"no image")
        await stream.write(pb.ExplainStreamRequest(request=one))
        assert (await stream.read()).request_id == "one"
        await asyncio.wait_for(server.stop(), SOON_S)
        with pytest.raises(grpc.aio.AioRpcError, match="retry on another replica") as ended:
            await stream.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
