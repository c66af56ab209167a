"""A server of a store that is stopped while it switches."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import threading

import grpc
import pytest
from grpc_status import rpc_status
from model_callers import Caller, picture, publish, until
from PIL import Image
from processes import TEXTCAM
from small_models import write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.serving.registry import watcher
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings
from textcam_service.store.models import ModelStore

DRAIN_S = 10


def own_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("textcam-")}


async def outcome(call):
    """The version that answered, or the server's words; a call that was only dropped raises."""
    try:
        return (await call).provenance.model_version
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)
        if status is None:
            raise
        return status.message


async def test_a_stop_during_a_canary_answers_what_is_in_work_and_ends_both_versions(
    tmp_path, monkeypatch
):
    made = [write_model(tmp_path / str(seed), seed) for seed in range(2)]
    store, before = ModelStore(tmp_path / "store"), own_threads()
    publish(store, made[0], "1")
    compared, compare = asyncio.Event(), watcher.compare

    async def compare_for_ever(*arguments):
        compared.set()
        while True:
            await compare(*arguments)

    monkeypatch.setattr(watcher, "compare", compare_for_ever)
    settings = ServerSettings(
        port=0,
        metrics_port=-1,
        store=store.root,
        store_poll_s=0.05,
        session_threads=1,
        decode_threads=2,
        drain_seconds=DRAIN_S,
    )
    server = Server(None, settings)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        caller = Caller(server, channel)
        publish(store, made[1], "2")
        await asyncio.wait_for(compared.wait(), 30)
        calls = [asyncio.create_task(outcome(caller.explain(seed=seed))) for seed in range(40)]
        await until(lambda: caller.metric("textcam_requests_in_flight") >= 4, "calls in work")
        await asyncio.wait_for(server.stop(), DRAIN_S / 2)
        answers = set(await asyncio.gather(*calls))
    assert "1" in answers
    assert answers <= {"1", "the server shuts down; another replica will answer"}
    assert server.models.versions("m") == ("1",)
    await until(lambda: not own_threads() - before, "the threads of both ended")


def large():
    """A request that takes a while."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((3000, 2000)).save(file, "PNG")
    spec = types_pb.ModelSpec(name="a")
    return pb.ExplainRequest(
        model=spec,
        encoded=file.getvalue(),
        heatmap=types_pb.HEATMAP_FORM_OVERLAY,
        request_id="last",
    )


async def answered(explainer, process, request):
    """The answer, once the server and the model are there."""
    while True:
        assert process.poll() is None, process.returncode
        with contextlib.suppress(grpc.aio.AioRpcError):
            return await explainer.Explain(request, wait_for_ready=True, timeout=30)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_while_another_model_is_fetched_answers_what_is_in_work(tmp_path, workers):
    store = ModelStore(tmp_path / "store")
    for seed, name in enumerate("ab"):
        publish(store, write_model(tmp_path / name, seed), "1", name)
    (graph,) = tmp_path.glob("store/b/**/backbone.onnx")
    graph.unlink()
    os.mkfifo(graph)  # a store that never answers
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--store", store.root, "--metrics-port", "-1", "--workers", workers, "--port", port]
    command = [TEXTCAM, "serve", *map(str, flags)]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220 - it returns at once
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                explainer = explainer_pb2_grpc.ExplainerServiceStub(channel)
                small = pb.ExplainRequest(model=types_pb.ModelSpec(name="a"), encoded=picture(0))
                await asyncio.wait_for(answered(explainer, process, small), 60)
                call = explainer.Explain(large(), timeout=60)
                await asyncio.sleep(0.1)
                process.send_signal(signal.SIGTERM)
                assert (await call).request_id == "last"
            assert await asyncio.to_thread(process.wait, 30) == 0
        finally:
            process.kill()
