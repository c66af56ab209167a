"""A backbone's folder, and its manifest as JSON."""

from dataclasses import asdict, replace

import pytest
from small_models import write_model
from textcam_service.artefacts.backbone import BackboneManifest, digest_key
from textcam_service.artefacts.files import read_artefact, sha256
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ArtefactCorrupt, FolderTaken

SIZE = Preprocessing(32, 32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
MANIFEST = BackboneManifest(
    "network", "layer", "gap_linear", "sha256:1", SIZE, ("a", "b"), 3, 7, 7,
    {"torch": "2"}, quantized_from="sha256:0",
)  # fmt: skip


def test_a_manifest_is_read_as_it_was_written():
    assert BackboneManifest.from_json(asdict(MANIFEST)) == MANIFEST
    assert MANIFEST.precision == "int8"


def test_a_manifest_with_another_spelling_of_a_field_is_read():
    content = asdict(MANIFEST)
    content["quantised_from"] = content.pop("quantized_from")
    assert BackboneManifest.from_json(content) == MANIFEST


def test_a_manifest_without_a_field_is_refused():
    content = asdict(MANIFEST)
    del content["head_kind"]
    with pytest.raises(ArtefactCorrupt, match="lacks a field"):
        BackboneManifest.from_json(content)


def test_a_folder_states_the_digest_of_its_graph(tmp_path):
    folder = write_model(tmp_path, 6) / "backbone"
    _, value = read_artefact(folder, "backbone")
    manifest = BackboneManifest.from_json(value)
    assert isinstance(manifest.preprocessing.mean, tuple)
    assert (manifest.cells, manifest.precision) == (64, "float32")
    assert value[digest_key("backbone")] == sha256((folder / "backbone.onnx").read_bytes())


def test_a_backbone_does_not_replace_a_folder_of_other_files(tmp_path):
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "thesis.tex").touch()
    with pytest.raises(FolderTaken, match=r"thesis\.tex"):
        write_model(tmp_path, 7)


def test_a_manifest_from_before_multi_label_is_read_as_of_exclusive_classes():
    content = asdict(replace(MANIFEST, multi_label=True))
    assert BackboneManifest.from_json(content).multi_label
    del content["multi_label"]
    assert BackboneManifest.from_json(content) == MANIFEST
