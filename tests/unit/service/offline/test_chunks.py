"""Chunks: what is saved is resumed, and nothing else is taken for it."""

import numpy as np
import pytest
from textcam_service.artefacts.files import write_artefact
from textcam_service.offline.chunks import Chunk, ChunkStore

CHUNK = Chunk({"scores": np.arange(6.0).reshape(2, 3), "rows": np.array([4, 5])}, {"skipped": [1]})


def store(folder, kind="part", tensors=("scores", "rows")):
    return ChunkStore(folder, kind, tensors)


def never():
    raise AssertionError("the chunk was computed again")


def assert_same(found, expected=CHUNK):
    assert found.tensors.keys() == expected.tensors.keys()
    for name, value in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], value)
    assert found.manifest["skipped"] == expected.manifest["skipped"]


def test_a_chunk_is_computed_once_and_then_resumed(tmp_path):
    assert_same(store(tmp_path).resume(["a", 1], lambda: CHUNK))
    assert_same(store(tmp_path).resume(["a", 1], never))


def test_a_chunk_is_of_its_identity_and_kind_alone(tmp_path):
    store(tmp_path).save(["a", 1], CHUNK)
    assert store(tmp_path).load(["a", 2]) is None
    assert store(tmp_path, "other").load(["a", 1]) is None


def test_nothing_is_there_before_the_first_chunk(tmp_path):
    assert store(tmp_path / "work").load("a") is None
    assert not (tmp_path / "work").exists()


def test_a_chunk_that_was_damaged_is_computed_again(tmp_path):
    store(tmp_path).save("a", CHUNK)
    (path,) = tmp_path.glob("*/part.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store(tmp_path).load("a") is None
    assert_same(store(tmp_path).resume("a", lambda: CHUNK))
    assert_same(store(tmp_path).load("a"))


def test_a_chunk_that_holds_other_arrays_is_not_read(tmp_path):
    store(tmp_path).save("a", CHUNK)
    assert store(tmp_path, tensors=("scores", "rows", "more")).load("a") is None
    with pytest.raises(ValueError, match=r"holds \['scores'\]"):
        store(tmp_path, tensors=("scores",)).save("a", CHUNK)


def test_a_folder_of_another_layout_is_left_alone(tmp_path):
    """Named by a digest alone, with files of the same kind."""
    old = tmp_path / ("0" * 24)
    old.mkdir()
    write_artefact(old, "part", CHUNK.tensors, {})
    assert store(tmp_path).load("a") is None
    store(tmp_path).save("a", CHUNK)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failure_while_saving_leaves_no_chunk(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("textcam_service.offline.chunks.write_artefact", fails)
        with pytest.raises(OSError, match="disk full"):
            store(tmp_path).save("a", CHUNK)
    assert store(tmp_path).load("a") is None
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_that_another_process_saved_meanwhile_is_kept(tmp_path, monkeypatch):
    store(tmp_path).save("a", CHUNK)

    def beaten(*_):
        raise OSError("directory not empty")

    monkeypatch.setattr("textcam_service.offline.chunks.write_artefact", beaten)
    store(tmp_path).save("a", CHUNK)
    assert_same(store(tmp_path).load("a"))
