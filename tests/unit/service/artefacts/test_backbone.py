"""A backbone's manifest as JSON."""

from dataclasses import asdict

import pytest
from textcam_service.artefacts.backbone import BackboneManifest
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ArtefactCorrupt

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
