"""The user's cache folder: what is kept is read again, and losing it costs time alone."""

import os
from pathlib import Path

import numpy as np
import pytest
from textcam_service.offline import cache
from textcam_service.offline.cache import cache_folder, keep, kept
from textcam_service.offline.chunks import Chunk, ChunkStore


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "textcam"


class Counted:
    """Computes a chunk of a number, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return Chunk({"rows": np.array([self.calls])}, {})


def test_the_folder_follows_the_environment(folder, monkeypatch):
    assert cache_folder() == folder
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path("~/.cache/textcam").expanduser()


def test_a_chunk_is_computed_once_for_each_identity(folder):
    compute = Counted()
    found = [kept("thing", ["rows"], own, compute).tensors["rows"].item() for own in "aabab"]
    assert found == [1, 1, 2, 1, 2]
    assert compute.calls == 2
    assert len(list(folder.glob("thing-*"))) == 2


def test_a_damaged_chunk_is_told_and_computed_again(folder, caplog):
    compute = Counted()
    kept("thing", ["rows"], "a", compute)
    (path,) = folder.glob("thing-*/thing.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert kept("thing", ["rows"], "a", compute).tensors["rows"].item() == 2
    assert "does not have the digest" in caplog.text
    assert "made anew" in caplog.text
    assert kept("thing", ["rows"], "a", compute).tensors["rows"].item() == 2


def test_a_folder_that_cannot_be_written_costs_time_alone(folder, caplog):
    folder.parent.write_text("a file in its place")
    compute = Counted()
    assert kept("thing", ["rows"], "a", compute).tensors["rows"].item() == 1
    assert kept("thing", ["rows"], "a", compute).tensors["rows"].item() == 2
    assert "cannot be written" in caplog.text
    assert "XDG_CACHE_HOME" in caplog.text


def test_chunks_that_were_used_least_lately_are_removed(folder, monkeypatch):
    monkeypatch.setattr(cache, "_KEPT", 2)
    store = ChunkStore(folder, "thing", ["rows"])
    compute = Counted()
    for place, own in enumerate("ab"):
        keep(store, own, compute(), 2)
        os.utime(store.path(own), (place, place))
    kept("thing", ["rows"], "a", compute)  # used: "b" is the older one now
    keep(store, "c", compute(), 2)
    assert store.load("b") is None
    assert store.load("a") is not None
    assert store.load("c") is not None
