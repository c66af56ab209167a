"""Int8 backbones: which nodes stay float, which sets are refused, and the gate."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image
from small_models import load_model, write_model
from textcam_service.artefacts.backbone import ACTIVATION_MAPS
from textcam_service.core.agreement import AgreementThresholds, ExplanationAgreement
from textcam_service.errors import InvalidSettings, ProbingSetError, QuantizationRefused
from textcam_service.offline import quantization
from textcam_service.offline.quantization import (
    QuantizationSettings,
    quantize,
    quantized_graph,
    split,
)
from textcam_service.runtime.backbone import Backbone

ALL = QuantizationSettings(float_layers=0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("model"), 0))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def judged(monkeypatch):
    """The figures of the comparison, which is not made."""
    figures = ExplanationAgreement(50, 0.9, 0.9, 0.9, 0.9)
    monkeypatch.setattr(quantization, "compare", lambda *_: figures)
    return figures


def inputs(count):
    rng = np.random.default_rng(0)
    return iter(rng.normal(0, 1, (count, 3, 32, 32)).astype(np.float32))


def test_images_are_divided_the_same_at_every_call():
    paths = [Path(f"{index}.png") for index in range(9)]
    chosen, others = split(paths, 4)
    assert (len(chosen), len(others)) == (4, 5)
    assert sorted([*chosen, *others]) == paths
    assert chosen != paths[:4]
    assert split(paths, 4) == (chosen, others)


def test_first_layers_and_all_off_the_way_to_the_maps_stay_float():
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "bend"),
        helper.make_node("Conv", ["b", "k"], [ACTIVATION_MAPS], "second"),
        helper.make_node("Gemm", [ACTIVATION_MAPS, "w"], ["logits"], "head"),
    ]
    graph = SimpleNamespace(node=nodes)
    assert quantization._float_nodes(graph, 0) == ["head"]
    assert quantization._float_nodes(graph, 1) == ["first", "bend", "head"]
    assert quantization._float_nodes(graph, 2) == ["first", "bend", "second", "head"]


def test_the_int8_graph_computes_nearly_the_same(bundle, tmp_path):
    graph, used = quantized_graph(bundle.backbone, inputs(8), ALL, tmp_path)
    assert used == 8
    kinds = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert "QuantizeLinear" in kinds
    other = quantization._candidate(bundle.backbone, graph, tmp_path / "candidate")
    given = np.stack(list(inputs(2)))
    for own, theirs in zip(bundle.backbone.forward(given), other.forward(given), strict=True):
        pair = own.activation_maps.ravel(), theirs.activation_maps.ravel()
        assert 0.98 < np.corrcoef(pair)[0, 1] < 1 - 1e-9


def test_without_inputs_or_layers_nothing_is_quantized(bundle, tmp_path):
    with pytest.raises(ProbingSetError, match="none of the calibration images could be read"):
        quantized_graph(bundle.backbone, inputs(0), ALL, tmp_path)
    with pytest.raises(QuantizationRefused, match="nothing is left to quantize in small"):
        quantized_graph(bundle.backbone, inputs(2), QuantizationSettings(6), tmp_path)


def test_what_agrees_enough_is_written_with_its_origin(bundle, images, judged, tmp_path):
    thresholds = AgreementThresholds(0.9, 0.9, 0.9)
    report = quantize(bundle, images[:2], images[2:], tmp_path / "int8", ALL, thresholds)
    assert report.figures == judged
    assert report.quantization["images"] == 2
    written = Backbone(tmp_path / "int8").manifest
    source = bundle.backbone.manifest.weights_digest
    assert written.quantized_from == source
    assert written.weights_digest != source


def test_what_does_not_agree_is_not_written(bundle, images, judged, tmp_path):
    with pytest.raises(QuantizationRefused, match="does not explain as the float one"):
        quantize(bundle, images[:2], images[2:], tmp_path / "int8", ALL)
    assert not (tmp_path / "int8").exists()


def test_sets_and_folders_that_overlap_are_refused(bundle, images, tmp_path):
    with pytest.raises(ProbingSetError, match="images for calibration cannot also be compared"):
        quantize(bundle, images[:3], images[2:], tmp_path / "int8")
    with pytest.raises(InvalidSettings, match="holds the float backbone"):
        quantize(bundle, images[:2], images[2:], bundle.backbone.folder)


def test_an_int8_backbone_is_not_quantized_again(bundle, images, tmp_path):
    manifest = replace(bundle.backbone.manifest, quantized_from="sha256:f")
    own = SimpleNamespace(manifest=manifest, folder=bundle.backbone.folder)
    with pytest.raises(InvalidSettings, match="is an int8 backbone already"):
        quantize(replace(bundle, backbone=own), images[:2], images[2:], tmp_path / "int8")
