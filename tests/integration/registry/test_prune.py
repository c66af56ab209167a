"""Old versions go out of a store, and what is needed stays: on a folder, in memory and on S3."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from model_callers import publish, served
from processes import TEXTCAM
from small_models import write_model
from textcam_service.errors import ArtefactMissing, StoreFailed, VersionInUse
from textcam_service.store.models import ModelStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("made"), 0)


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    root = tmp_path / "store" if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return ModelStore(root)


def fill(store, made, *versions, pause_s=0.01):
    """Publish these in this order; the last is current, the one before it the one to go back to."""
    for version in versions:
        publish(store, made, version)
        time.sleep(pause_s)


def held(store):
    return {found.version for found in store.list("m")}


def prune(store, keep):
    removed = store.prunable("m", keep)
    for version in removed:
        store.remove("m", version)
    return removed


def test_the_oldest_go_by_their_publication_and_not_by_their_name(store, made):
    fill(store, made, "z", "b", "y", "a", "x")
    assert store.prunable("m", 5) == store.prunable("m", 9) == ()
    assert prune(store, 3) == ("z", "b")
    assert held(store) == {"y", "a", "x"}
    assert prune(store, 3) == ()
    assert store.current("m").version == "x"


def test_the_current_version_and_the_one_to_roll_back_to_stay_however_old(store, made):
    fill(store, made, "1", "2", "3", "4", "5")
    store.use("m", "2")
    store.use("m", "1")
    assert prune(store, 0) == ("3", "4", "5")
    assert held(store) == {"1", "2"}
    for version in ("1", "2"):
        with pytest.raises(VersionInUse, match=f"m@{version} is current, or the version to roll"):
            store.remove("m", version)
    assert store.roll_back("m") == "2"


def test_a_roll_back_passes_over_what_was_pruned(store, made):
    fill(store, made, "1", "2", "3", "4")
    store.use("m", "1")  # before it: 1, 2, 3, 4
    assert prune(store, 0) == ("2", "3")
    assert [store.roll_back("m"), store.roll_back("m")] == ["4", "1"]


def test_names_that_hold_nothing_are_told_and_other_models_stay(store, made):
    fill(store, made, "1", "2", "3")
    publish(store, made, "1", "other")
    with pytest.raises(ArtefactMissing, match="nothing of the name 'none'"):
        store.prunable("none", 0)
    with pytest.raises(ArtefactMissing, match="m@7 is missing"):
        store.remove("m", "7")
    assert prune(store, 0) == ("1",)
    assert [found.name for found in store.list("other")] == ["other"]


def test_a_removal_that_breaks_off_leaves_no_half_version(store, made, monkeypatch):
    """Once it began to remove files, the version is not there; its name is free again."""
    fill(store, made, "1", "2", "3")
    whole, remove = store._fs.rm, type(store._fs).rm

    def break_off(path, recursive=False, **more):
        if recursive and path.endswith("/1"):
            raise OSError("the network went away")
        return remove(store._fs, path, recursive=recursive, **more)

    monkeypatch.setattr(store._fs, "rm", break_off)
    with pytest.raises(StoreFailed, match="the network went away"):
        store.remove("m", "1")
    monkeypatch.setattr(store._fs, "rm", whole)
    assert held(store) == {"2", "3"}
    assert store.prunable("m", 3) == ("1",)
    publish(store, made, "1")
    assert held(store) == {"1", "2", "3"}
    assert store.prunable("m", 3) == ()


KILLED = """
import os, signal, sys
from textcam_service.cli import main

left, begun = int(sys.argv[1]), False

def on_event(event, arguments):
    global left, begun
    if event in {"os.rename", "os.remove", "os.rmdir"}:
        begun = begun or "/m/1" in str(arguments[0])  # what follows may be named by its folder
        left -= begun
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(on_event)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("steps", [0, 1, 2, 6, 10])
def test_a_prune_that_is_killed_leaves_whole_versions_and_what_the_next_one_removes(
    tmp_path, made, steps
):
    """Killed before its first change of the store, its second, and so on."""
    store = ModelStore(tmp_path / "store")
    fill(store, made, "1", "2", "3")
    half = tmp_path / "store" / "m" / "half"  # someone publishes meanwhile
    (half / "backbone").mkdir(parents=True)
    arguments = ["model", "prune", "m", "--store", store.root, "--keep", "0"]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(steps), *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert held_folders(tmp_path) == ["1", "2", "3", "half"]
    assert held(store) == ({"2", "3"} if steps else {"1", "2", "3"})
    for version in held(store):
        store.fetch("m", version, tmp_path / "cache")
    if steps:
        with pytest.raises(ArtefactMissing, match="m@1 is missing, or incomplete"):
            store.fetch("m", "1", tmp_path / "cache")
        with pytest.raises(ArtefactMissing, match="m@1 is missing, or incomplete"):
            store.use("m", "1")
    would = command(store, "--keep", "3", "--dry-run")[1]
    assert ("would remove m@1" in would) == (steps > 0)
    assert command(store, "--keep", "0") == (0, "removed m@1\n", "")
    assert held_folders(tmp_path) == ["2", "3", "half"]


def command(store, *arguments):
    done = subprocess.run(
        [TEXTCAM, "model", "prune", "m", "--store", store.root, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_what_it_removes(tmp_path, made):
    store = ModelStore(tmp_path / "store")
    fill(store, made, "1", "2", "3", "4")
    would = "would remove m@1\nwould remove m@2\n"
    assert command(store, "--keep", "0", "--dry-run") == (0, would, "")
    assert held(store) == {"1", "2", "3", "4"}
    assert command(store, "--keep", "3") == (0, "removed m@1\n", "")
    assert command(store, "--keep", "3")[1].startswith("nothing to remove")
    assert sorted(path.name for path in (tmp_path / "store" / "m").iterdir()) == [
        "2",
        "3",
        "4",
        "current.json",
    ]
    code, _, said = command(store, "--keep", "-1")
    assert (code, "-1 is not in the range" in said) == (2, True)
    assert command(store)[0] == 2
    (tmp_path / "store" / "m" / "current.json").write_text("{")
    code, _, said = command(store, "--keep", "0")
    assert (code, "does not name a version" in said) == (1, True)
    assert held_folders(tmp_path) == ["2", "3", "4"]


def held_folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "store" / "m").iterdir() if path.is_dir())


async def test_a_server_goes_on_over_a_prune_and_follows_the_store(tmp_path, made):
    """It serves out of the folder that the store is, and of a version that is gone."""
    store = ModelStore(tmp_path / "store")
    fill(store, made, "1", "2")
    async with served(store.root, store_keep=2) as caller:
        for version in ("3", "4"):
            fill(store, made, version)
            await caller.poll()
        assert prune(store, 0) == ("1", "2")
        assert (await caller.explain(version="2")).provenance.model_version == "2"
        await asyncio.to_thread(store.roll_back, "m")
        await caller.poll()
        assert caller.version() == "3"
        assert not caller.pending()


def test_on_s3_too(made, monkeypatch):
    s3 = pytest.importorskip("s3_server", reason="NOT TESTED: s3:// stores")
    server, _, files = s3.start_s3(monkeypatch, "pruned")
    try:
        store = ModelStore("s3://pruned/served")
        fill(store, made, "z", "y", "a", "x", pause_s=1.1)  # S3 tells times by the second
        assert command(store, "--keep", "3") == (0, "removed m@z\n", "")
        assert prune(store, 0) == ("y",)
        assert held(ModelStore("s3://pruned/served")) == {"a", "x"}
        files.invalidate_cache()
        left = {os.path.relpath(path, "pruned/served/m") for path in files.find("pruned/served/m")}
        assert {path.split("/")[0] for path in left} == {"a", "x", "current.json"}
    finally:
        files.rm("pruned", recursive=True)
        server.stop()
        s3.s3fs.S3FileSystem.clear_instance_cache()
