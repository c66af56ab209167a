"""What is damaged, missing or full never reaches callers."""

import asyncio
import resource
import signal
import subprocess
import sys

import pytest
from model_callers import publish, served, spoil
from textcam_service.errors import (
    ArtefactMissing,
    InvalidSettings,
    StoreFailed,
    VersionExists,
)
from textcam_service.store import models as store_models
from textcam_service.store.models import ModelStore

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
