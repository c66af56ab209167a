"""Served models: each under its name, switched under load without a loss."""

import asyncio
import gc
import weakref
from collections import Counter
from contextlib import asynccontextmanager

import grpc
import psutil
from model_callers import picture, publish, served, until
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.serving.engine.encoding import IdentityEncoder
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.memory import freeze_gc


def provenance(answer):
    own = answer.provenance
    return own.model_version, own.backbone_digest, own.bank_digest, own.vocabulary_digest


async def test_two_models_at_once_each_under_its_name(store, made):
    publish(store, made["a"], "1", "first")
    publish(store, made["b"], "1", "second")
    async with served(store.root) as caller:
        answers = [await caller.explain(name) for name in ("first", "second")]
        assert [answer.provenance.model_name for answer in answers] == ["first", "second"]
        assert answers[0].predictions[0].logit != answers[1].predictions[0].logit
        listed = (await caller.explainer.ListModels(pb.ListModelsRequest())).models
        assert [(one.name, one.version) for one in listed] == [("first", "1"), ("second", "1")]
        for name in ("", "textcam.model/first", "textcam.model/second"):
            assert await caller.healthy(name)
        code, said = await caller.refused("")
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "'first', 'second'" in said
        assert (await caller.refused("third"))[0] is grpc.StatusCode.NOT_FOUND
        ready = await caller.inference.ModelReady(oip.ModelReadyRequest(name="second"))
        assert ready.ready
        for model in ("first", "second"):
            digests = {
                "version": "1",
                "precision": "float32",
                **{
                    field: getattr(answers[model == "second"].provenance, field)
                    for field in (
                        "backbone_digest",
                        "bank_digest",
                        "vocabulary_digest",
                        "execution_provider",
                    )
                },
            }
            assert caller.metric("textcam_bundle_info", model=model, **digests) == 1


class Load:
    """Callers over all three ways in, and by which version each call was answered."""

    def __init__(self, caller, pause_s=0.02):
        self.caller = caller
        self.sent = 0
        self.seen = Counter()
        self._pause_s = pause_s
        self._over = False

    async def one_by_one(self):
        while not self._over:
            await asyncio.sleep(self._pause_s)
            self.sent += 1
            answer = await self.caller.explain(seed=self.sent % 7)
            self.seen[provenance(answer)] += 1

    async def in_batches(self):
        image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[3])
        while not self._over:
            await asyncio.sleep(self._pause_s)
            image.contents.bytes_contents[:] = [picture(seed) for seed in range(3)]
            self.sent += 1
            request = oip.ModelInferRequest(model_name="m", inputs=[image])
            answer = await self.caller.inference.ModelInfer(request, timeout=60)
            digests = [
                answer.parameters[name].string_param
                for name in ("backbone_digest", "bank_digest", "vocabulary_digest")
            ]
            self.seen[(answer.model_version, *digests)] += 1

    async def in_a_stream(self):
        async def requests():
            number = 0
            while not self._over:
                await asyncio.sleep(self._pause_s)
                number += 1
                self.sent += 1
                own = pb.ExplainRequest(
                    request_id=str(number),
                    model=types_pb.ModelSpec(name="m"),
                    encoded=picture(number % 7),
                )
                yield pb.ExplainStreamRequest(request=own)

        async for item in self.caller.explainer.ExplainStream(requests()):
            assert item.HasField("response"), item.error.message
            self.seen[provenance(item.response)] += 1

    @asynccontextmanager
    async def running(self, callers=3):
        ways = [*(self.one_by_one for _ in range(callers)), self.in_batches, self.in_a_stream]
        tasks = [asyncio.create_task(way()) for way in ways]
        try:
            yield self
        finally:
            self._over = True
            await asyncio.gather(*tasks)


async def test_a_switch_under_load_loses_nothing_and_mixes_nothing(store, made):
    publish(store, made["a"], "1")
    async with served(store.root, store_keep=1) as caller:
        load = Load(caller)
        async with load.running():
            await until(lambda: load.seen.total() > 30, "answers by the old version")
            publish(store, made["b"], "2")
            await caller.poll()
            after = load.sent
            await until(lambda: load.sent > after + 30, "calls after the switch")
        assert load.seen.total() == load.sent
        both = {provenance(await caller.explain(version=version)) for version in ("1", "2")}
        assert set(load.seen) == both
        assert len(both) == 2
        assert caller.server.models.versions("m") == ("2", "1")


async def test_many_switches_under_load(request, store, made):
    """Each answer is one version's entirely; old versions close; memory stays.

    Fifty switches with --whole, as in `make test-faults`.
    """
    turns = 50 if request.config.getoption("--whole", default=False) else 14
    for version, letter in (("1", "a"), ("2", "b")):
        publish(store, made[letter], version)
    process = psutil.Process()
    async with served(store.root) as caller:
        load, memory = Load(caller), []
        threads = process.num_threads()
        async with load.running():
            for turn in range(turns):
                store.use("m", "1" if turn % 2 == 0 else "2")
                await caller.poll()
                assert caller.version() == ("1" if turn % 2 == 0 else "2")
                memory.append(process.memory_info().rss / 2**20)
        assert load.seen.total() == load.sent
        assert len(load.seen) == 2
        await until(lambda: not caller.server.models._closing, "old versions closed")
        await until(lambda: process.num_threads() <= threads + 12, "their threads ended")
        assert caller.metric("textcam_model_swaps_total", model="m") == turns + 1
        assert caller.metric("textcam_queue_depth_images") == 0
        assert caller.metric("textcam_requests_in_flight") == 0
        print(f"{load.sent} calls, memory {memory[9]:.0f} MiB to {memory[-1]:.0f} MiB")
        assert memory[-1] < memory[9] + 60


async def test_an_old_version_closes_only_after_its_answers(store, made):
    publish(store, made["a"], "1")
    async with served(store.root) as caller:
        with caller.server.models.lease(ModelRef("m")) as old:
            publish(store, made["b"], "2")
            await caller.poll()
            assert caller.version() == "2"
            await asyncio.sleep(0.2)
            answer = await old.explain(old.default_job(picture(0)), IdentityEncoder())
            assert answer.bundle.version == "1"
            assert (await caller.refused(version="1"))[0] is grpc.StatusCode.NOT_FOUND
        await until(lambda: not caller.server.models._closing, "the old version closed")


async def test_a_version_that_left_is_freed_at_once(store, made):
    """Also what was set aside from collections, and without waiting for the next full one."""
    publish(store, made["a"], "1")
    async with served(store.root) as caller:
        freeze_gc()
        with caller.server.models.lease(ModelRef("m")) as engine:
            left = weakref.ref(engine.bundle)
        del engine
        gc.disable()
        try:
            publish(store, made["b"], "2")
            await caller.poll()
            await until(lambda: left() is None, "the old version freed")
        finally:
            gc.enable()
