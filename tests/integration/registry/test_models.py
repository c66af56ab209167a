"""Models of a store: several at once, switched under load, compared, refused, rolled back."""

import asyncio
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
import weakref
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from model_callers import picture, publish, served, until
from processes import TEXTCAM, running
from small_models import write_model
from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import (
    ArtefactMissing,
    InvalidSettings,
    StoreFailed,
    VersionExists,
)
from textcam_service.serving.engine.encoding import IdentityEncoder
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.memory import freeze_gc
from textcam_service.serving.server import Server
from textcam_service.settings import ServerSettings
from textcam_service.store import models as store_models
from textcam_service.store.models import ModelStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of bundles: by letter apart from each other, "a2" close to "a"."""
    root = tmp_path_factory.mktemp("made")
    folders = {letter: write_model(root / letter, seed) for seed, letter in enumerate("abc")}
    return folders | {"a2": write_model(root / "a2", 1, like=0)}


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store")


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


async def test_fifty_switches_under_load(store, made):
    """Each answer is one version's entirely; old versions close; memory stays."""
    for version, letter in (("1", "a"), ("2", "b")):
        publish(store, made[letter], version)
    process = psutil.Process()
    async with served(store.root) as caller:
        load, memory = Load(caller), []
        threads = process.num_threads()
        async with load.running():
            for turn in range(50):
                store.use("m", "1" if turn % 2 == 0 else "2")
                await caller.poll()
                assert caller.version() == ("1" if turn % 2 == 0 else "2")
                memory.append(process.memory_info().rss / 2**20)
        assert load.seen.total() == load.sent
        assert len(load.seen) == 2
        await until(lambda: not caller.server.models._leaving, "old versions closed")
        await until(lambda: process.num_threads() <= threads + 12, "their threads ended")
        assert caller.metric("textcam_model_swaps_total", model="m") == 51
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
        await until(lambda: not caller.server.models._leaving, "the old version closed")


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


async def test_the_canary_reports_drift_and_by_default_lets_it_pass(store, made, caplog):
    caplog.set_level("INFO", "textcam_service.serving.registry.watcher")
    publish(store, made["a"], "1")
    async with served(store.root) as caller:
        publish(store, made["a2"], "2")
        await caller.poll()
        close = report(caplog)
        publish(store, made["b"], "3")
        await caller.poll()
        far = report(caplog)
        assert caller.version() == "3"
        measured = caller.metric("textcam_canary_drift", model="m", measure="map_correlation")
        assert measured == far["map_correlation"]
    assert (close["from"], close["to"], close["images"]) == ("1", "2", 16)
    assert close["map_correlation"] > 0.999
    assert close["first_phrase"] == close["top1"] == 1
    assert close["share_difference"] < 0.01
    assert far["map_correlation"] < 0.9
    assert far["top1"] < 1
    assert far["share_difference"] > 0.1


def report(caplog):
    lines = [record.getMessage() for record in caplog.records]
    return json.loads([line for line in lines if line.startswith("canary ")][-1][7:])


@pytest.mark.parametrize(
    "threshold",
    [
        {"canary_min_map_correlation": 0.95},
        {"canary_min_first_phrase": 0.95},
        {"canary_min_top1": 0.95},
        {"canary_max_share_difference": 0.05},
    ],
)
async def test_each_threshold_refuses_a_switch(store, made, threshold, caplog):
    publish(store, made["a"], "1")
    async with served(store.root, **threshold) as caller:
        publish(store, made["b"], "2")
        await caller.poll()
        assert caller.version() == "1"
        assert (await caller.explain()).provenance.model_version == "1"
        assert (caller.failures("DRIFT_REFUSED"), caller.pending()) == (1, 1)
        await caller.poll()  # it is not loaded again until the store says something else
        assert caller.failures("DRIFT_REFUSED") == 1
        assert f"textcam model use m 2 --store {store.root} --accept-drift" in caplog.text
        publish(store, made["a2"], "3")
        await caller.poll()
        assert (caller.version(), caller.pending()) == ("3", 0)
        store.use("m", "2", accept_drift=True)
        await caller.poll()
        assert caller.version() == "2"
        assert store.roll_back("m") == "3"
        await caller.poll()
        assert caller.version() == "3"


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


async def test_a_server_that_starts_anew_refuses_what_the_others_refuse(store, made):
    publish(store, made["a"], "1")
    publish(store, made["b"], "2")
    async with served(store.root, canary_min_map_correlation=0.95) as caller:
        assert caller.version() == "1"
        assert (caller.failures("DRIFT_REFUSED"), caller.pending()) == (1, 1)
        assert await caller.healthy()


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


async def test_the_canary_explains_the_images_that_were_published(store, made, tmp_path, caplog):
    """Its maps' correlation is that of both versions' answers to these images, by numpy."""
    caplog.set_level("INFO", "textcam_service.serving.registry.watcher")
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    publish(store, made["a"], "1")
    async with served(store.root, store_keep=1) as caller:
        publish(store, made["b"], "2", canary=tmp_path)
        await caller.poll()
        expected = []
        for seed in range(3):
            before = await caller.explain(version="1", seed=seed)
            request = pb.ExplainRequest(model=types_pb.ModelSpec(name="m"), encoded=picture(seed))
            index = before.explanations[0].target.class_index
            request.target.classes.classes.add(index=index)
            after = await caller.explainer.Explain(request)
            maps = [
                np.frombuffer(answer.explanations[0].saliency_map.data, "<f4")
                for answer in (before, after)
            ]
            expected.append(np.corrcoef(*maps)[0, 1])
    found = report(caplog)
    assert found["images"] == 3
    assert found["map_correlation"] == pytest.approx(np.mean(expected), abs=1e-4)


async def test_a_roll_back_is_one_command(store, made):
    for version, letter in (("1", "a"), ("2", "b")):
        publish(store, made[letter], version)
    async with served(store.root, canary_min_map_correlation=0.99) as caller:
        command = [TEXTCAM, "model", "rollback", "m", "--store", store.root]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=True
        )
        assert done.stdout == "m@1 is current\n"
        await caller.poll()
        assert (await caller.explain()).provenance.model_version == "1"


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda folder: spoil(folder / "backbone" / "backbone.onnx"), "ARTEFACT_CORRUPT"),
        (lambda folder: cut(folder / "bank" / "bank.safetensors"), "ARTEFACT_CORRUPT"),
        (lambda folder: spoil(folder / "bundle.json"), "ARTEFACT_CORRUPT"),
        (lambda folder: (folder / "bank" / "vocabulary.json").unlink(), "ARTEFACT_MISSING"),
        (lambda folder: (folder / "bundle.json").unlink(), "ARTEFACT_MISSING"),
        (lambda folder: cut(folder.parent / "current.json"), "ARTEFACT_CORRUPT"),
    ],
    ids=["digest mismatch", "half an object", "manifest", "object gone", "half-written", "pointer"],
)
async def test_what_is_not_sound_is_never_served(store, made, tmp_path, fault, reason):
    publish(store, made["a"], "1")
    publish(store, made["c"], "1", "other")
    async with served(store.root) as caller:
        publish(store, made["b"], "2")
        fault(tmp_path / "store" / "m" / "2")
        publish(store, made["b"], "2", "other")
        await caller.poll()
        assert (await caller.explain()).provenance.model_version == "1"
        assert caller.version("other") == "2", "another model goes on"
        assert (caller.failures(reason), caller.pending()) == (1, 1)
        assert await caller.healthy()
        (tmp_path / "store" / "m" / "current.json").unlink()
        publish(store, made["b"], "3")
        await caller.poll()
        assert (caller.version(), caller.pending()) == ("3", 0)


async def test_mixed_parts_are_refused_even_where_their_digests_hold(store, made, tmp_path):
    """A backbone and another's bank, as a faulty publisher might upload them."""
    publish(store, made["a"], "1")
    async with served(store.root) as caller:

        class Unverified:
            load = staticmethod(lambda *_: None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store_models, "ModelBundle", Unverified)
            store.publish("m", made["b"] / "backbone", made["c"] / "bank", "2")
        await caller.poll()
        assert (caller.version(), caller.failures("BUNDLE_MISMATCH")) == ("1", 1)


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


async def test_a_store_that_is_gone_is_survived(store, made, tmp_path):
    publish(store, made["a"], "1")
    async with served(store.root) as caller:
        looked = caller.metric("textcam_store_look_timestamp_seconds")
        assert looked > 0
        (tmp_path / "store").rename(tmp_path / "gone")
        await caller.poll()
        assert (caller.failures("ARTEFACT_MISSING"), caller.pending()) == (1, 1)
        assert (await caller.explain()).provenance.model_version == "1"
        assert await caller.healthy()
        (tmp_path / "gone").rename(tmp_path / "store")
        publish(store, made["b"], "2")
        await caller.poll()
        assert caller.version() == "2"
        assert caller.metric("textcam_store_look_timestamp_seconds") > looked


def test_a_version_is_published_once_and_a_bad_bundle_never(store, made, tmp_path):
    version = store.publish("m", made["a"] / "backbone", made["a"] / "bank")
    assert len(version) == 12
    with pytest.raises(VersionExists):
        store.publish("m", made["a"] / "backbone", made["a"] / "bank")
    with pytest.raises(Exception, match="was built for backbone"):
        store.publish("m", made["a"] / "backbone", made["b"] / "bank", "mixed")
    with pytest.raises(InvalidSettings, match="holds no image"):
        publish(store, made["b"], "2", canary=tmp_path / "none")
    with pytest.raises(ArtefactMissing, match="is missing, or incomplete"):
        store.use("m", "2")
    assert [found.version for found in store.list("m")] == [version]


def test_an_unknown_kind_of_store_is_told():
    with pytest.raises(InvalidSettings, match="cannot be opened"):
        ModelStore("nonsense://bucket")


PUBLISH = """
import resource, signal, sys
from pathlib import Path
from textcam_service.store.models import ModelStore
root, folder, limit = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN if limit else signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
folder = Path(folder)
ModelStore(root).publish("m", folder / "backbone", folder / "bank", "2")
"""


async def test_a_disk_that_is_full_while_publishing(store, made):
    """Writing fails in the midst of a file: the old version stays current, nothing else is left."""
    publish(store, made["a"], "1")
    size = (made["b"] / "backbone" / "backbone.onnx").stat().st_size
    command = [sys.executable, "-c", PUBLISH, store.root, str(made["b"]), str(size // 2)]
    async with served(store.root) as caller:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert "StoreFailed" in done.stderr
        assert "File too large" in done.stderr
        assert [(one.version, one.current) for one in store.list()] == [("1", True)]
        await caller.poll()
        assert (caller.version(), caller.pending()) == ("1", 0)
        publish(store, made["b"], "2")
        await caller.poll()
        assert caller.version() == "2"


def test_a_publisher_that_is_killed_half_way_is_as_if_it_had_not_been(store, made, tmp_path):
    publish(store, made["a"], "1")
    half = tmp_path / "store" / "m" / "2" / "backbone"
    half.mkdir(parents=True)
    (half / "backbone.onnx").write_bytes(b"half")
    assert [(one.version, one.current) for one in store.list()] == [("1", True)]
    assert publish(store, made["b"], "2") == "2"
    store.fetch("m", "2", tmp_path)


async def test_a_disk_that_is_full_while_fetching(made, tmp_path, caplog):
    """A remote store's model does not fit into the cache: the old version stays."""
    remote = ModelStore("memory://full")
    publish(remote, made["a"], "1")
    async with served("memory://full", store_cache=str(tmp_path / "cache")) as caller:
        publish(remote, made["b"], "2")
        size = (made["b"] / "backbone" / "backbone.onnx").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        try:
            await caller.poll()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert (caller.version(), caller.failures("STORE_FAILED")) == ("1", 1)
        assert f"cannot be copied to {tmp_path / 'cache'} (OSError: [Errno 27]" in caplog.text
        assert "the setting store_cache" in caplog.text
        left = [
            path
            for path in (tmp_path / "cache" / "m").iterdir()
            if path.name[0] == "." and path.is_dir()
        ]
        assert left == []
        remote.use("m", "2", accept_drift=True)
        await caller.poll()
        assert caller.version() == "2"


def test_a_cache_that_cannot_be_written_to_is_named_and_the_store_is_not(made, tmp_path):
    remote = ModelStore("memory://unwritten")
    publish(remote, made["a"], "1")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreFailed, match=f"copied to {file}/cache .*setting store_cache") as told:
        remote.fetch("m", "1", file / "cache")
    assert "memory://" not in str(told.value)


def test_a_store_that_fails_within_a_fetch_is_named_and_the_cache_is_not(
    made, tmp_path, monkeypatch
):
    remote = ModelStore("memory://withheld")
    publish(remote, made["a"], "1")

    def withhold(_, path, *__, **___):
        raise PermissionError(f"no right to read {path}")

    monkeypatch.setattr(type(remote._fs), "get_file", withhold)
    with pytest.raises(StoreFailed, match=r"memory://withheld failed .*its credentials") as told:
        remote.fetch("m", "1", tmp_path)
    assert "store_cache" not in str(told.value)


async def test_the_cache_keeps_the_served_copy_and_the_one_before(made, tmp_path):
    remote = ModelStore("memory://many")
    publish(remote, made["a"], "1")
    half = tmp_path / "m" / ".half"
    half.mkdir(parents=True)
    async with served("memory://many", store_cache=str(tmp_path)) as caller:
        for version, letter in (("2", "b"), ("3", "c")):
            publish(remote, made[letter], version)
            await caller.poll()
    kept = [remote.fetch("m", version, tmp_path) for version in ("2", "3")]
    assert sorted(path for path in half.parent.iterdir() if path.is_dir()) == sorted(kept)


def test_a_copy_in_the_cache_that_was_spoilt_is_fetched_again(made, tmp_path):
    remote = ModelStore("memory://cached")
    publish(remote, made["a"], "1")
    folder = remote.fetch("m", "1", tmp_path)
    spoil(folder / "backbone" / "backbone.onnx")
    again = remote.fetch("m", "1", tmp_path)
    assert again == folder
    own = (made["a"] / "backbone" / "backbone.onnx").read_bytes()
    assert (again / "backbone" / "backbone.onnx").read_bytes() == own


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
