"""What the metrics say of callers' requests: all of them, and nothing that no caller asked for."""

import asyncio

import grpc
import pytest
from model_callers import publish, served
from small_models import write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.telemetry.metric_definitions import STAGES
from textcam_service.store.models import ModelStore


@pytest.fixture
def store(tmp_path):
    """A store with version 1, and version 2 to be switched to."""
    store = ModelStore(tmp_path / "store")
    publish(store, write_model(tmp_path / "a", 0), "1")
    publish(store, write_model(tmp_path / "b", 1), "2", use=False)
    return store


def asked(caller):
    """By stage and by decoder, what callers' requests took."""
    stages = [
        caller.metric("textcam_stage_duration_seconds_count", stage=stage) for stage in STAGES
    ]
    decoders = ("raw", "pillow/PNG")
    images = [caller.metric("textcam_images_decoded_total", decoder=name) for name in decoders]
    return stages, images


async def test_warm_ups_and_canaries_are_not_callers_requests(store):
    async with served(store.root) as caller:
        assert asked(caller) == ([0] * 6, [0, 0])
        await caller.explain()
        store.use("m", "2")
        await caller.poll()
        assert caller.version() == "2"
        assert caller.metric("textcam_canary_drift", model="m", measure="top1")
        # It did run: what the session runs is told with them.
        assert caller.metric("textcam_batch_size_images_sum") > 2 * 16
        await caller.explain()
        assert asked(caller) == ([2] * 6, [0, 2])


async def test_a_canary_waits_for_a_full_queue_and_is_no_refusal(store):
    async with served(store.root, max_queue=1) as caller:
        with caller.server.models.lease(ModelRef("m")) as engine:
            store.use("m", "2")
            with engine._batcher.admit(None, Lane.AUDIT):
                looking = asyncio.create_task(caller.poll())
                await asyncio.sleep(2)
                assert not looking.done()
            await looking
        assert caller.version() == "2"
        assert caller.metric("textcam_rejected_total", reason="QUEUE_FULL") == 0


async def test_questions_about_models_count_by_either_contract_and_probes_do_not(store):
    async with served(store.root, store_models=("m", "late")) as caller:
        explainer, inference = caller.explainer, caller.inference
        asked = [
            (explainer.ListModels, pb.ListModelsRequest(), "OK"),
            (inference.ServerMetadata, oip.ServerMetadataRequest(), "OK"),
        ]
        for name, code in (("m", "OK"), ("none", "NOT_FOUND")):
            asked += [
                (explainer.GetModel, pb.GetModelRequest(model=types_pb.ModelSpec(name=name)), code),
                (inference.ModelMetadata, oip.ModelMetadataRequest(name=name), code),
                (inference.ModelReady, oip.ModelReadyRequest(name=name), code),
            ]
        asked += [
            (inference.ModelMetadata, oip.ModelMetadataRequest(name="late"), "UNAVAILABLE"),
            (inference.ModelReady, oip.ModelReadyRequest(name="late"), "OK"),  # it answers "no"
        ]
        counted = {}
        for method, request, code in asked:
            name = type(request).__name__.removesuffix("Request")
            counted[name, code] = counted.get((name, code), 0) + 1
            assert await answered(method(request)) == code
            labels = {"method": name, "code": code}
            assert caller.metric("textcam_requests_total", **labels) == counted[name, code], labels
        await inference.ServerLive(oip.ServerLiveRequest())
        await inference.ServerReady(oip.ServerReadyRequest())
        registry = caller.server._metrics.registry
        (family,) = (own for own in registry.collect() if own.name == "textcam_requests")
        totals = [own.value for own in family.samples if own.name.endswith("_total")]
        assert sum(totals) == len(asked)


async def answered(call):
    """The code that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"
