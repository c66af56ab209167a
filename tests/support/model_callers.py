"""A server of a store in this process, and what is asked of it over loopback."""

import asyncio
import io
import time
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings

SERVING = health_pb2.HealthCheckResponse.SERVING


def publish(store, folder, version, name="m", **options):
    return store.publish(name, folder / "backbone", folder / "bank", version, **options)


def picture(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Caller:
    """Calls a server, and asks its books."""

    def __init__(self, server, channel):
        self.server = server
        self.explainer = explainer_pb2_grpc.ExplainerServiceStub(channel)
        self.inference = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    async def explain(self, name="m", version="", seed=0):
        spec = types_pb.ModelSpec(name=name, version=version)
        return await self.explainer.Explain(
            pb.ExplainRequest(model=spec, encoded=picture(seed)), timeout=60
        )

    async def refused(self, name="m", version=""):
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await self.explain(name, version)
        return found.value.code(), found.value.details()

    async def healthy(self, service=""):
        asked = health_pb2.HealthCheckRequest(service=service)
        return (await self._health.Check(asked)).status == SERVING

    async def poll(self):
        await self.server._watcher.poll()

    def version(self, name="m"):
        return self.server.models.versions(name)[0]

    def metric(self, name, **labels):
        return self.server._metrics.registry.get_sample_value(name, labels) or 0.0

    def failures(self, reason, model="m"):
        return self.metric("textcam_model_load_failures_total", model=model, reason=reason)

    def pending(self, model="m"):
        return self.metric("textcam_model_pending", model=model)


@asynccontextmanager
async def served(root, **settings):
    """A server that looks at the store when it is told to."""
    given = {"store_poll_s": 3600, "session_threads": 1, "decode_threads": 2} | settings
    server = Server(
        None, ServerSettings(port=0, metrics_port=-1, store=str(root), drain_seconds=5, **given)
    )
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Caller(server, channel)
    finally:
        await server.stop()


async def until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
