"""Versions of whole models: published, fetched, verified and removed."""

import shutil
import uuid

import pytest
from model_callers import publish, spoil
from small_models import write_model
from textcam_service.errors import (
    ArtefactCorrupt,
    ArtefactMissing,
    InvalidSettings,
    StoreFailed,
    VersionExists,
    VersionInUse,
)
from textcam_service.store.models import ModelStore, canary_images


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("made"), 0)


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    root = tmp_path / "store" if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return ModelStore(root)


@pytest.fixture
def remote():
    return ModelStore(f"memory://{uuid.uuid4().hex}")


def versions(store):
    return [(found.version, found.current) for found in store.list("m")]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent != folder
    }


def test_a_version_is_fetched_as_it_was_published(store, made, tmp_path):
    version = publish(store, made, "")
    assert versions(store) == [(version, True)]
    fetched = store.fetch("m", version, tmp_path / "cache")
    wanted = {name: data for name, data in contents(made).items() if "/." not in name}
    assert contents(fetched) == wanted


def test_the_same_files_are_the_same_version_and_are_not_published_twice(store, made):
    version = publish(store, made, "")
    with pytest.raises(VersionExists, match=f"m@{version} is published already"):
        publish(store, made, "")


def test_a_version_that_is_not_used_leaves_the_current_one(store, made):
    publish(store, made, "1")
    publish(store, made, "2", use=False)
    assert versions(store) == [("1", True), ("2", False)]


def test_a_publication_that_breaks_off_leaves_nothing(store, made, monkeypatch):
    monkeypatch.setattr(store, "_set_current", lambda *_: 1 / 0)
    with pytest.raises((StoreFailed, ZeroDivisionError)):
        publish(store, made, "1")
    assert versions(store) == []


def test_a_bank_of_another_backbone_is_not_published(store, made, tmp_path):
    other = write_model(tmp_path / "other", 1)
    with pytest.raises(Exception, match="bank"):
        store.publish("m", made / "backbone", other / "bank", "1")
    assert versions(store) == []


def test_a_spoiled_file_is_found_when_it_is_fetched(made, tmp_path):
    store = ModelStore(tmp_path / "store")
    publish(store, made, "1")
    spoil(tmp_path / "store" / "m" / "1" / "backbone" / "backbone.onnx")
    with pytest.raises(ArtefactCorrupt):
        store.fetch("m", "1", tmp_path / "cache")


def test_a_spoiled_copy_is_replaced_and_a_sound_one_kept(remote, made, tmp_path):
    publish(remote, made, "1")
    copy = remote.fetch("m", "1", tmp_path / "cache")
    graph = copy / "backbone" / "backbone.onnx"
    wanted, inode = graph.read_bytes(), graph.stat().st_ino
    assert remote.fetch("m", "1", tmp_path / "cache") == copy
    assert graph.stat().st_ino == inode
    spoil(graph)
    assert remote.fetch("m", "1", tmp_path / "cache") == copy
    assert graph.read_bytes() == wanted


def test_copies_that_are_not_kept_leave_the_cache(remote, made, tmp_path):
    publish(remote, made, "1")
    copy = remote.fetch("m", "1", tmp_path / "cache")
    remote.prune_cache("m", tmp_path / "cache", [copy])
    assert copy.is_dir()
    remote.prune_cache("m", tmp_path / "cache", [])
    assert not copy.exists()


def test_versions_in_use_are_neither_prunable_nor_removed(store, made):
    for version in "123":
        publish(store, made, version)
    assert store.prunable("m", 3) == ()
    assert store.prunable("m", 0) == ("1",)
    for version in "23":
        with pytest.raises(VersionInUse, match=f"m@{version} is current, or the version to roll"):
            store.remove("m", version)
    store.remove("m", "1")
    assert versions(store) == [("2", False), ("3", True)]
    with pytest.raises(ArtefactMissing, match="nothing of the name 'x' is published"):
        store.prunable("x", 0)


def test_a_canary_travels_with_its_version_and_makes_another_one(store, made, tmp_path):
    canary = tmp_path / "canary"
    canary.mkdir()
    with pytest.raises(InvalidSettings, match="holds no image"):
        publish(store, made, "", canary=canary)
    plain = publish(store, made, "")
    for name in ("b.png", "a.JPG", "notes.txt"):
        (canary / name).write_bytes(name.encode())
    version = publish(store, made, "", canary=canary)
    assert version != plain
    fetched = store.fetch("m", version, tmp_path / "cache")
    assert [path.name for path in canary_images(fetched / "canary")] == ["a.JPG", "b.png"]
    shutil.rmtree(canary)
    assert canary_images(canary) == []
