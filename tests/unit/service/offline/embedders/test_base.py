"""Embedders' protocols, and phrases in templates."""

import numpy as np
import pytest
from PIL import Image
from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.base import (
    TEMPLATES,
    ClassifierEmbedder,
    PartEmbedder,
    as_pillow,
    embed_with_templates,
    part_embedder,
)


class Letters:
    """Embeds a text by its numbers of "a" and "b"."""

    identity, dimension, logit_scale = "letters@sha256:0", 2, 1.0

    def embed_images(self, images):
        return np.zeros((len(images), 2), np.float32)

    def embed_texts(self, texts):
        counts = np.array([[text.count("a"), text.count("b")] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class Parts(Letters):
    part_size = (8, 8)

    def embed_parts(self, pictures, parts):
        raise NotImplementedError


class Blind(Parts):
    @property
    def part_size(self):
        raise EmbedderError("its tower has no dense map")


def test_a_phrase_is_the_mean_direction_of_its_templates():
    found = embed_with_templates(Letters(), ["a", "b"], ("{}", "b{}"))
    half = np.sqrt(0.5)
    expected = np.array([[1 + half, half], [0, 2]])
    np.testing.assert_allclose(
        found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    assert found.dtype == np.float32


def test_every_template_has_one_place_for_the_phrase_and_none_stands_twice():
    assert all(template.count("{}") == 1 for template in TEMPLATES)
    assert len(set(TEMPLATES)) == len(TEMPLATES)


def test_an_embedder_of_parts_is_told_from_others():
    assert part_embedder(Parts()).part_size == (8, 8)
    with pytest.raises(EmbedderError, match="letters@sha256:0 gives one embedding per picture"):
        part_embedder(Letters())
    with pytest.raises(EmbedderError, match="no dense map"):
        part_embedder(Blind())
    assert isinstance(Parts(), PartEmbedder)
    assert not isinstance(Parts(), ClassifierEmbedder)


def test_pixels_become_a_picture_and_a_picture_stays():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    found = as_pillow(pixels)
    assert found.size == (4, 2)
    assert np.array_equal(np.asarray(found), pixels)
    assert as_pillow(found) is found
    assert isinstance(found, Image.Image)
