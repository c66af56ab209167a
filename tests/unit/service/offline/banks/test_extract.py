"""Extraction over chunks, with a backbone and an embedder of a few lines."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ProbingSetError
from textcam_service.offline.banks import extract as module
from textcam_service.offline.banks.extract import extract

SIZE = Preprocessing(4, 4, 4, "bilinear", (0.0,) * 3, (1.0,) * 3)
HEAD = np.array([[1, 0, 0], [0, 2, 0]], np.float32)


class Colours:
    """A backbone whose channels are the mean colours; its two classes are red and green."""

    is_linear, head_weights = True, HEAD

    def __init__(self):
        names = ("red", "green")
        self.manifest = SimpleNamespace(
            preprocessing=SIZE, weights_digest="colours", channel_count=3, class_names=names
        )
        self.seen = 0

    def run(self, images):
        self.seen += len(images)
        maps = images.mean((2, 3), keepdims=True)
        return maps[:, :, 0, 0] @ HEAD.T, maps


class Sizes:
    identity, dimension, logit_scale = "sizes@sha256:0", 2, 1.0

    def embed_images(self, images):
        return np.float32([[1, 0] if image.width > image.height else [0, 1] for image in images])

    def embed_texts(self, texts):
        raise NotImplementedError


class Classes(Sizes):
    """Also a classifier: the first logit is a picture's width."""

    def classify(self, images):
        logits = np.zeros((len(images), 1000), np.float32)
        logits[:, 0] = [image.width for image in images]
        return logits

    def embed_logits(self, logits):
        return np.stack([logits[:, 0], logits[:, 0]], axis=1)


@pytest.fixture
def images(tmp_path):
    paths = []
    for place, colour in enumerate(((200, 0, 0), (0, 150, 0), (90, 60, 30), (0, 0, 0))):
        paths.append(tmp_path / f"{place}.png")
        Image.new("RGB", (6 + place, 8), colour).save(paths[-1])
    paths[3].write_bytes(b"damaged")
    return paths


def test_scores_logits_and_evidence_are_the_backbones(images, tmp_path):
    found = extract(images, Colours(), Sizes(), tmp_path / "work")
    means = np.float32([[200, 0, 0], [0, 150, 0], [90, 60, 30]]) / 255
    np.testing.assert_allclose(found.activation_scores, means, atol=1e-6)
    np.testing.assert_allclose(found.logits, means @ HEAD.T, atol=1e-6)
    assert found.predicted.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.evidence, HEAD[[0, 1, 1]] * means, atol=1e-6)
    assert found.embeddings.tolist() == [[0, 1], [0, 1], [0, 1]]
    assert found.opinions.shape == (3, 0)
    assert [skip.path for skip in found.skipped] == [str(images[3])]


def test_a_classifier_embedder_keeps_its_logits(images, tmp_path):
    found = extract(images, Colours(), Classes(), tmp_path / "work")
    assert found.opinions.shape == (3, 1000)
    assert found.opinions[:, 0].tolist() == found.embeddings[:, 0].tolist() == [6, 7, 8]


def test_chunks_do_not_change_the_result_and_are_resumed(images, tmp_path, monkeypatch):
    whole = extract(images, Colours(), Sizes(), tmp_path / "whole")
    monkeypatch.setattr(module, "_CHUNK", 3)
    backbone, done = Colours(), []
    parts = extract(images, backbone, Sizes(), tmp_path / "parts", done.append)
    assert done == [3, 1]
    assert backbone.seen == 3
    # One more image and one that changed: only their chunks are seen again.
    again = extract([*images, images[0]], backbone, Sizes(), tmp_path / "parts")
    assert backbone.seen == 4
    assert len(again.logits) == 4
    for name in ("activation_scores", "logits", "evidence", "embeddings", "opinions"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.skipped == whole.skipped


def test_nothing_to_read_is_refused(images, tmp_path):
    with pytest.raises(ProbingSetError, match="holds no image"):
        extract([], Colours(), Sizes(), tmp_path / "work")
    with pytest.raises(ProbingSetError, match="none of the 1 images could be read"):
        extract(images[3:], Colours(), Sizes(), tmp_path / "work")
