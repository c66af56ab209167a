"""A published model's manifest and the files it vouches for."""

import json

import pytest
from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.errors import ArtefactCorrupt, ArtefactMissing
from textcam_service.store.manifest import read_manifest, verify_files, write_manifest

DIGESTS = {"backbone/backbone.onnx": sha256(b"graph"), "bank/bank.json": sha256(b"{}")}


def test_digests_are_read_back_as_written():
    assert read_manifest(write_manifest(DIGESTS), "p") == DIGESTS


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": [], "digest": "x"}'])
def test_what_is_no_manifest_is_refused_with_its_path(content):
    with pytest.raises(ArtefactCorrupt, match=r"m/1/bundle\.json is not a manifest"):
        read_manifest(content, "m/1/bundle.json")


@pytest.mark.parametrize(
    "path", ["../other", "backbone/../../x", "/etc/passwd", "backbone/", "backbone", "else/x"]
)
def test_a_path_that_leads_out_of_the_version_is_refused(path):
    content = write_manifest({path: sha256(b"")})
    with pytest.raises(ArtefactCorrupt, match="was changed after it was written"):
        read_manifest(content, "p")


def test_a_digest_that_was_changed_is_refused():
    manifest = json.loads(write_manifest(DIGESTS))
    manifest["files"]["bank/bank.json"] = sha256(b"other")
    assert manifest["digest"] == sha256(canonical_json(DIGESTS))
    with pytest.raises(ArtefactCorrupt, match="was changed"):
        read_manifest(json.dumps(manifest).encode(), "p")


def test_files_are_verified_and_named_by_their_source(tmp_path):
    (tmp_path / "bank").mkdir()
    file = tmp_path / "bank" / "bank.json"
    digests = {"bank/bank.json": DIGESTS["bank/bank.json"]}
    with pytest.raises(ArtefactMissing):
        verify_files(tmp_path, digests)
    file.write_bytes(b"{}")
    verify_files(tmp_path, digests)
    file.write_bytes(b"{ }")
    with pytest.raises(ArtefactCorrupt, match=r"^s3://b/m/1/bank/bank\.json does not have"):
        verify_files(tmp_path, digests, "s3://b/m/1")
