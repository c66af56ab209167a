"""Versions of a store that servers refused: nobody goes back to them."""

from contextlib import contextmanager

import pytest
from model_callers import publish, served
from small_models import write_model
from textcam_service.errors import ArtefactMissing
from textcam_service.store.filesystem import remove
from textcam_service.store.models import ModelStore

GUARD = {"canary_min_map_correlation": 0.9}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of bundles: "b" and "b2" are alike, "a" is apart from both."""
    root = tmp_path_factory.mktemp("made")
    folders = {letter: write_model(root / letter, seed) for seed, letter in enumerate("ab")}
    return folders | {"b2": write_model(root / "b2", 2, like=1)}


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return ModelStore(tmp_path / "store" if request.param == "folder" else "memory://refused")


@pytest.fixture(autouse=True)
def empty_memory():
    store = ModelStore("memory://refused")
    remove(store._fs, store._root)


async def refuse_two(store, made, caller):
    """Publish what the caller's server refuses, and then what is like that."""
    for version, letter in (("2", "b"), ("3", "b2")):
        publish(store, made[letter], version)
        await caller.poll()
        assert caller.version() == "1"


async def test_a_server_that_starts_goes_back_to_what_the_others_serve(store, made):
    """Not to the last before, by which the current one would pass: that was refused too."""
    publish(store, made["a"], "1")
    async with served(store.root, **GUARD) as running:
        await refuse_two(store, made, running)
        async with served(store.root, **GUARD) as fresh:
            assert fresh.version() == "1"
            assert (fresh.failures("DRIFT_REFUSED"), fresh.pending()) == (1, 1)


async def test_a_roll_back_passes_over_what_was_refused(store, made):
    publish(store, made["a"], "1")
    async with served(store.root, **GUARD) as caller:
        await refuse_two(store, made, caller)
        assert store.prunable("m", 0) == ("2",)
        assert store.roll_back("m") == "1"
        await caller.poll()
        assert (caller.version(), caller.pending()) == ("1", 0)
    with pytest.raises(ArtefactMissing, match="no version to roll back"):
        store.roll_back("m")


async def test_what_was_refused_and_then_taken_all_the_same_is_gone_back_to(store, made):
    publish(store, made["a"], "1")
    async with served(store.root, **GUARD) as caller:
        await refuse_two(store, made, caller)
        store.use("m", "2", accept_drift=True)
        await caller.poll()
        publish(store, made["b2"], "4")
        await caller.poll()
        assert caller.version() == "4"
        assert store.roll_back("m") == "2"


async def test_a_server_that_serves_the_current_one_again_is_not_sent_elsewhere(store, made):
    """After a refusal somebody names the served version: what is before it was never served."""
    publish(store, made["a"], "1")
    async with served(store.root, **GUARD) as caller:
        await refuse_two(store, made, caller)
        store.use("m", "1")
        await caller.poll()
        assert caller.pending() == 0
        with pytest.raises(ArtefactMissing, match="no version to roll back"):
            store.roll_back("m")
        async with served(store.root, **GUARD) as fresh:
            assert (fresh.version(), fresh.failures("DRIFT_REFUSED")) == ("1", 0)


async def test_what_could_be_compared_with_nothing_is_not_marked(store, made):
    """A server that starts on damaged versions takes what it can, which the others refused."""
    publish(store, made["a"], "1")
    async with served(store.root, **GUARD) as running:
        publish(store, made["b"], "2")
        await running.poll()
        store._fs.pipe_file(store._path("m", "1/bank/bank.json"), b"{")
        async with served(store.root, **GUARD) as fresh:
            assert fresh.version() == "2"
        assert store.roll_back("m") == "1"


@contextmanager
def read_only(store, patch):
    def refuse(_, path, *__, **___):
        raise PermissionError(f"no right to write {path}")

    with patch.context() as patched:
        patched.setattr(type(store._fs), "pipe_file", refuse)
        yield


async def test_a_store_that_servers_may_not_write_to_is_as_it_was_without_marks(
    store, made, monkeypatch, caplog
):
    publish(store, made["a"], "1")
    publish(store, made["a"], "1", "other")
    with read_only(store, monkeypatch):
        async with served(store.root) as caller:
            assert await caller.healthy()
    told = [record for record in caplog.records if "cannot be marked" in record.message]
    assert [record.levelname for record in told] == ["WARNING"]
    assert "no right to write" in told[0].message
    publish(store, made["b"], "2")
    async with served(store.root, **GUARD) as caller:
        assert caller.version() == "1"
    assert store.roll_back("m") == "1"
