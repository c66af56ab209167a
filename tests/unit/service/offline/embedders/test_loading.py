"""Embedders by name: unknown names, and packages that are missing."""

import sys

import pytest
from textcam_service.errors import EmbedderError, MissingExtra
from textcam_service.offline.embedders.loading import load_embedder


@pytest.mark.parametrize(
    "spec", ["", "packaged:x", "scenes:x", "open_clip", "open_clip:ViT-B-32", "clip:a:b"]
)
def test_a_malformed_name_is_refused_with_the_forms_that_there_are(spec):
    with pytest.raises(EmbedderError, match=r"give 'packaged', 'scenes', 'open_clip:MODEL:"):
        load_embedder(spec)


@pytest.mark.parametrize("spec", ["packaged", "scenes", "open_clip:ViT-B-32:openai"])
def test_a_missing_package_is_named_with_the_extra(spec, monkeypatch):
    kind = "packaged" if spec == "packaged" else "openclip"
    monkeypatch.setitem(sys.modules, f"textcam_service.offline.embedders.{kind}", None)
    with pytest.raises(MissingExtra, match=r"pip install 'textcam-service\[offline\]'"):
        load_embedder(spec)


def test_a_path_may_hold_colons():
    with pytest.raises(EmbedderError, match=r"'/a:b\.pt' is neither a file nor a pretrained tag"):
        load_embedder("open_clip:ViT-B-32:/a:b.pt")
