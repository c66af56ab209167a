"""A store of models behind an S3-speaking server on loopback: its objects, and its absence."""

import asyncio
import json
import subprocess

import pytest
from model_callers import publish, served, until
from processes import TEXTCAM
from s3_server import moto, s3fs, start_s3
from small_models import write_model
from textcam_service.errors import ArtefactCorrupt, StoreFailed
from textcam_service.store.models import ModelStore


@pytest.fixture
def s3(monkeypatch):
    """A server that can be stopped and started, with an empty bucket."""
    server, port, files = start_s3(monkeypatch, "models")

    class Switch:
        def stop(self):
            server.stop()

        def start(self):
            self.again = moto.ThreadedMotoServer("127.0.0.1", port=port)
            self.again.start()

    switch = Switch()
    switch.files, switch.again = files, None
    yield switch
    if files.exists("models"):
        files.rm("models", recursive=True)
    (switch.again or server).stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return {letter: write_model(root / letter, seed) for seed, letter in enumerate("abc")}


def test_what_is_published_is_what_is_fetched(s3, made, tmp_path):
    store = ModelStore("s3://models/served")
    assert store.list() == ()
    publish(store, made["a"], "1")
    publish(store, made["b"], "2")
    assert [(one.version, one.current) for one in store.list()] == [("1", False), ("2", True)]
    folder = store.fetch("m", "2", tmp_path)
    for path in (made["b"] / "backbone").iterdir():
        assert (folder / "backbone" / path.name).read_bytes() == path.read_bytes()
    s3.files.pipe_file("models/served/m/1/bank/bank.json", b"{")
    with pytest.raises(ArtefactCorrupt, match=r"models/served/m/1/bank/bank\.json"):
        store.fetch("m", "1", tmp_path)
    assert [path for path in (tmp_path / "m").iterdir() if path.is_dir()] == [folder]


async def test_a_server_follows_it_and_survives_it(s3, made, tmp_path):
    """Switched by the watch itself, at a spoilt object, through an outage, and rolled back."""
    root = "s3://models/served"
    store = ModelStore(root)
    publish(store, made["a"], "1")
    async with served(root, store_poll_s=0.2, store_cache=str(tmp_path)) as caller:
        publish(store, made["b"], "2")
        await until(lambda: caller.version() == "2", "the watch switched")
        publish(store, made["c"], "3", use=False)
        s3.files.pipe_file("models/served/m/3/backbone/backbone.onnx", b"half")
        store.use("m", "3")
        await until(lambda: caller.failures("ARTEFACT_CORRUPT"), "the spoilt object was noticed")
        assert (await caller.explain()).provenance.model_version == "2"
        s3.stop()
        await until(lambda: caller.failures("STORE_FAILED", ""), "the outage was noticed", 60)
        looked = caller.metric("textcam_store_look_timestamp_seconds")
        with pytest.raises(StoreFailed, match="check its address"):
            publish(ModelStore(root), made["c"], "4")
        assert (await caller.explain()).provenance.model_version == "2"
        assert await caller.healthy()
        assert caller.metric("textcam_store_look_timestamp_seconds") == looked
        s3.start()
        command = [TEXTCAM, "model", "rollback", "m", "--store", root]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("m@2 is current\n", "")
        await until(lambda: not caller.pending(), "the store says what is served", 60)
        assert caller.metric("textcam_store_look_timestamp_seconds") > looked
        assert store.roll_back("m") == "1"
        await until(lambda: caller.version() == "1", "the version before", 60)
    assert json.loads(s3.files.cat_file("models/served/m/current.json"))["version"] == "1"
