"""Artefacts on disk: digests, and folders that are replaced as a whole."""

import json
import os
from contextlib import suppress

import numpy as np
import pytest
from textcam_service.artefacts.files import (
    canonical_json,
    read_artefact,
    replaced_folder,
    require_replaceable,
    sha256,
    version_of,
    write_artefact,
)
from textcam_service.errors import ArtefactCorrupt, ArtefactMissing, FolderTaken


def test_tensors_and_manifest_are_read_back_with_their_digest(tmp_path):
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T  # not contiguous
    digest = write_artefact(tmp_path, "a", {"t": turned}, {"name": "ä"})
    tensors, manifest = read_artefact(tmp_path, "a")
    np.testing.assert_array_equal(tensors["t"], turned)
    assert (manifest["digest"], manifest["name"]) == (digest, "ä")


@pytest.mark.parametrize("file", ["a.json", "a.safetensors"])
def test_a_file_that_is_changed_or_missing_is_refused(file, tmp_path):
    write_artefact(tmp_path, "a", {"t": np.zeros(2)}, {"name": "x"})
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(
        content.replace(b'"x"', b'"y"') if "json" in file else content[:-1]
    )
    with pytest.raises(ArtefactCorrupt):
        read_artefact(tmp_path, "a")
    (tmp_path / file).unlink()
    with pytest.raises(ArtefactMissing, match=file):
        read_artefact(tmp_path, "a")


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, json.dumps({"digest": "x"})])
def test_what_is_no_manifest_is_refused_as_such(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ArtefactCorrupt, match=r"a\.json (is not a manifest|was changed)"):
        read_artefact(tmp_path, "a")


def test_a_version_is_of_the_files_and_not_of_their_order():
    one, two = sha256(b"1"), sha256(b"2")
    assert version_of({"a": one, "b": two}) == version_of({"b": two, "a": one})
    assert version_of({"a": one}) != version_of({"a": two})
    assert len(version_of({})) == 12
    assert canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'.encode()


def test_a_failure_while_a_folder_is_filled_leaves_the_old_one(tmp_path):
    target = tmp_path / "bank"
    with replaced_folder(target, ["file"]) as staging:
        (staging / "file").write_text("old")
    with suppress(RuntimeError), replaced_folder(target, ["file"]) as staging:
        (staging / "file").write_text("new")
        raise RuntimeError
    assert (target / "file").read_text() == "old"
    with replaced_folder(target, ["file"]) as staging:
        (staging / "file").write_text("new")
    assert (target / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["bank"]  # noqa: PTH208 - names alone


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    require_replaceable(tmp_path / "absent", [])
    (tmp_path / "known").touch()
    require_replaceable(tmp_path, ["known"])
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "video.mp4").touch()
    with pytest.raises(FolderTaken, match=r"holds 'photo\.jpg' and 1 more"):
        require_replaceable(tmp_path, ["known"])
