"""Servers of a store as they start, alone and beside others on a port."""

import asyncio
import os
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
from model_callers import picture, publish, served, spoil, until
from processes import running
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam_service.errors import (
    StoreFailed,
)
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings
from textcam_service.store.models import ModelStore


async def test_a_server_of_an_empty_store_says_so_once_and_where_it_looks(store, made, caplog):
    async with served(store.root) as caller:
        await caller.poll()
        told = [record for record in caplog.records if "no model is published" in record.message]
        assert [record.levelname for record in told] == ["WARNING"]
        assert store.root in told[0].message
        publish(store, made["a"], "1")
        await caller.poll()
        assert caller.version() == "1"


async def test_a_server_of_a_store_has_looked_before_it_has_a_bundle(store, made, monkeypatch):
    """By these two TextcamModelMissing and TextcamDown know it, also where no look succeeds."""

    def bundles():
        found = caller.server._metrics.registry.collect()
        return [
            sample
            for family in found
            if family.name == "textcam_bundle"
            for sample in family.samples
        ]

    def away(_):
        raise StoreFailed("no route")

    monkeypatch.setattr(ModelStore, "names", away)
    async with served(store.root) as caller:
        assert caller.failures("STORE_FAILED", "") == 1
        assert caller.metric("textcam_store_look_timestamp_seconds") > 0
        assert bundles() == []
        monkeypatch.undo()
        publish(store, made["a"], "1")
        await caller.poll()
        assert len(bundles()) == 1


async def test_a_server_of_a_store_with_a_model_warns_of_nothing(store, made, caplog):
    publish(store, made["a"], "1")
    async with served(store.root):
        assert "no model is published" not in caplog.text


async def test_a_server_that_starts_on_a_damaged_version_serves_the_one_before(
    store, made, tmp_path
):
    publish(store, made["a"], "1")
    publish(store, made["b"], "2")
    spoil(tmp_path / "store" / "m" / "2" / "backbone" / "backbone.onnx")
    async with served(store.root) as caller:
        assert (await caller.explain()).provenance.model_version == "1"
        assert (caller.failures("ARTEFACT_CORRUPT"), caller.pending()) == (1, 1)
        assert await caller.healthy()


async def test_not_serving_before_a_model_is_warm_then_serving(store, made):
    publish(store, made["a"], "1")
    async with served(store.root, store_models=("m", "later")) as caller:
        assert await caller.healthy("textcam.model/m")
        assert not await caller.healthy("textcam.model/later")
        assert not await caller.healthy()
        assert not await caller.healthy("textcam.v1.ExplainerService")
        assert (await caller.explain()).provenance.model_version == "1"
        assert (await caller.refused("later"))[0] is grpc.StatusCode.UNAVAILABLE
        assert not (await caller.inference.ServerReady(oip.ServerReadyRequest())).ready
        assert caller.failures("ARTEFACT_MISSING", "later") == 1
        publish(store, made["b"], "1", "later")
        await caller.poll()
        await asyncio.sleep(0.1)
        assert await caller.healthy()
        assert await caller.healthy("textcam.model/later")


def test_two_processes_on_a_port_follow_the_store_each(store, made):
    publish(store, made["a"], "1")
    with running("--store", store.root, "--store-poll-s", "0.2", "--workers", "2") as started:
        publish(store, made["b"], "2")
        until_end = time.monotonic() + 60
        text = ""
        while 'textcam_model_swaps_total{model="m"} 4.0' not in text:
            assert time.monotonic() < until_end, text
            time.sleep(0.2)
            with urllib.request.urlopen(started.metrics) as page:
                text = page.read().decode()
        info = [line for line in text.splitlines() if line.startswith("textcam_bundle_info")]
        assert len(info) == 1
        assert 'version="2"' in info[0]
        for _ in range(6):
            with grpc.insecure_channel(started.address) as channel:
                stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
                answer = stub.Explain(pb.ExplainRequest(encoded=picture(1)), timeout=60)
            assert answer.provenance.model_version == "2"


def test_a_process_that_is_started_again_takes_no_call_before_it_has_a_model(store, made):
    """The other answers all, for as long as the store holds the new one up."""
    publish(store, made["a"], "1")
    with running("--store", store.root, "--workers", "2") as started:
        victim, *_ = (
            child
            for child in psutil.Process(started.process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        )
        (graph,) = Path(store.root).glob("m/1/**/backbone.onnx")
        graph.unlink()
        os.mkfifo(graph)  # a store that never answers
        victim.kill()
        end, reached = time.monotonic() + 60, None
        while reached is None:
            assert time.monotonic() < end, "no new process looks at the store"
            time.sleep(0.1)
            with suppress(OSError):  # nobody reads it yet
                reached = os.open(graph, os.O_WRONLY | os.O_NONBLOCK)
        try:
            for _ in range(24):
                own = [("grpc.use_local_subchannel_pool", 1)]
                with grpc.insecure_channel(started.address, own) as channel:
                    stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
                    assert stub.GetModel(pb.GetModelRequest(), timeout=20).summary.version == "1"
        finally:
            os.close(reached)


async def test_a_server_that_joins_others_listens_once_it_serves_a_model(store, made):
    settings = ServerSettings(port=0, metrics_port=-1, store=store.root, store_poll_s=0.05)
    server = Server(None, settings, joins=True)
    starting = asyncio.create_task(server.start())
    looked = server._metrics.registry.get_sample_value
    begun = time.time()
    await until(lambda: looked("textcam_store_look_timestamp_seconds") > begun, "a look")
    assert (server.port, starting.done()) == (0, False)
    publish(store, made["a"], "1")
    await asyncio.wait_for(starting, 60)
    try:
        assert server.port
        assert server.models.is_ready()
    finally:
        await server.stop()


async def test_a_server_that_joins_others_may_be_stopped_before_it_listens(store):
    settings = ServerSettings(port=0, metrics_port=-1, store=store.root, store_poll_s=0.05)
    server = Server(None, settings, joins=True)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0.1)
    starting.cancel()
    await asyncio.wait([starting])
    await asyncio.wait_for(server.stop(), 60)
