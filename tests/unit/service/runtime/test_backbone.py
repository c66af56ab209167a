"""A small real backbone in onnxruntime."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_models import SIDE, write_model
from textcam_service.core.methods import (
    AttentionGradients,
    Capability,
    Gradient,
    HeadPasses,
    ImagePasses,
)
from textcam_service.core.types import Crop
from textcam_service.errors import ArtefactCorrupt, ArtefactMissing
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.providers import DeviceOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 4) / "backbone"


@pytest.fixture(scope="module")
def backbone(folder):
    return Backbone(folder, threads=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)


def test_an_output_per_image_which_keeps_nothing_of_its_batch(backbone, images):
    outputs = backbone.forward(images)
    logits, maps = backbone.run(images)
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(output.logits, logits[index], atol=1e-5)
        np.testing.assert_allclose(output.activation_maps, maps[index], atol=1e-5)
        assert output.activation_maps.base is None


def test_a_linear_head_answers_heads_and_gradients_by_arithmetic(backbone, images):
    (output,) = backbone.forward(images[:1])
    assert backbone.capabilities == {
        Capability.LINEAR_HEAD,
        Capability.GRADIENT,
        Capability.HEAD,
    }
    own = HeadPasses(output.activation_maps[None])
    assert backbone.is_closed_form(own)
    assert backbone.is_closed_form(Gradient(np.eye(5)[0]))
    assert not backbone.is_closed_form(ImagePasses(images))
    assert not backbone.is_closed_form(AttentionGradients(np.eye(5)[0]))
    np.testing.assert_allclose(backbone.query(own, output)[0], output.logits, atol=1e-4)
    gradient = backbone.query(Gradient(np.eye(5)[2]), output)
    np.testing.assert_allclose(
        gradient.sum(axis=(1, 2)), backbone.head_weights[2], atol=1e-5
    )  # of a mean
    np.testing.assert_allclose(
        backbone.query(ImagePasses(images), output), backbone.logits(images), atol=1e-6
    )


def test_batches_are_padded_to_buckets_and_cut_to_the_largest(folder, backbone, images):
    device = DeviceOptions(max_batch=2, in_graph=True)
    there = Backbone(folder, threads=1, device=device)
    assert there.buckets.sizes == (1, 2)
    there.warm()
    found = there.forward(images)
    wanted = backbone.forward(images)
    assert len(found) == 3
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
        np.testing.assert_allclose(
            np.asarray(one.activation_maps), other.activation_maps, atol=1e-5
        )


def test_a_crop_is_shifted_by_as_much_of_the_image_as_the_cells_are(folder):
    backbone = Backbone(folder, threads=1)
    backbone.manifest = replace(backbone.manifest, grid_shift=(2.0, -1.0))
    crop = backbone.on_grid(Crop(0, 0, 64, 128))
    assert (crop.shift_x, crop.shift_y) == (2.0 * 64 / SIDE, -1.0 * 128 / SIDE)


def test_the_fingerprint_is_the_same_in_every_session(folder, backbone):
    again = Backbone(folder, threads=1).fingerprint()
    np.testing.assert_allclose(backbone.fingerprint(), again, atol=1e-6)


def test_a_graph_that_is_missing_or_changed_is_refused(tmp_path):
    folder = write_model(tmp_path, 5) / "backbone"
    graph = folder / "backbone.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ArtefactCorrupt, match="does not have the digest"):
        Backbone(folder, threads=1)
    graph.unlink()
    with pytest.raises(ArtefactMissing, match=r"backbone\.onnx"):
        Backbone(folder, threads=1)
    manifest = json.loads((folder / "backbone.json").read_text())
    (folder / "backbone.json").write_text(json.dumps({**manifest, "architecture": "other"}))
    with pytest.raises(ArtefactCorrupt, match="was changed after it was written"):
        Backbone(folder, threads=1)
