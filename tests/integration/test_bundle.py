"""Model bundles: what a class is called, and which version a bundle is."""

from dataclasses import replace

import pytest
from small_models import write_model
from textcam_service.bundle import ModelBundle
from textcam_service.errors import UnknownClass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 1)


def named(folder, *names):
    bundle = ModelBundle.load("m", folder / "backbone", folder / "bank")
    manifest = replace(bundle.backbone.manifest, class_names=names)
    bundle.backbone.manifest = manifest
    return bundle


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("taby", "near it: Tabby"),
        ("tiger kat", "near it: Tiger cat"),
        ("cat", "near it: Tiger cat"),  # a word of a name
        ("TABYB", "near it: Tabby"),
    ],
)
def test_a_class_that_is_misspelt_is_refused_with_the_names_near_it(folder, wrong, near):
    bundle = named(folder, "Tabby", "Tiger cat", "lynx", "coffee mug", "rocket")
    with pytest.raises(UnknownClass, match=near) as refused:
        bundle.class_index(wrong, "target")
    assert "lists all 5; an index will do" in str(refused.value)


def test_where_no_name_is_near_none_is_offered(folder):
    bundle = named(folder, "Tabby", "Tiger cat", "lynx", "coffee mug", "rocket")
    with pytest.raises(UnknownClass) as refused:
        bundle.class_index("zebra", "target")
    assert "near it" not in str(refused.value)
