"""A user's ONNX classifier becomes a backbone, whoever wrote it."""

import subprocess
import warnings

import numpy as np
import onnx
import pytest
import torch
from processes import TEXTCAM
from textcam_service.core.methods import (
    METHODS,
    Capability,
    MethodInput,
    MethodSettings,
    run_method,
)
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.export import export_onnx
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.network import (
    Network,
    StatedPreprocessing,
    standard_preprocessing,
)
from textcam_service.runtime.backbone import Backbone
from torch import nn

SIZE, STATED = standard_preprocessing(64), StatedPreprocessing((64, 64))


class Gap(nn.Module):
    def __init__(self, head=None):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()
        )
        self.head = head or nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def written(module, path, free=True):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    shapes = {"x": {0: torch.export.Dim.DYNAMIC}} if free else None
    torch.onnx.export(
        module.eval(), (torch.zeros(2 if free else 1, 3, 64, 64),), str(path), dynamo=True,
        input_names=["image"], output_names=["logits"], dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    return module


def pixels(count):
    return np.random.default_rng(2).normal(0, 1, (count, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("free", [True, False])
def test_a_linear_head_has_its_closed_form(tmp_path, free):
    module = written(Gap(), tmp_path / "m.onnx", free)
    report = export_onnx(tmp_path / "m.onnx", tmp_path / "b", preprocessing=STATED)
    backbone = Backbone(tmp_path / "b")
    assert (report.head_kind, report.maps_shape) == ("gap_linear", (12, 16, 16))
    np.testing.assert_allclose(backbone.head_weights, module.head.weight.detach(), atol=1e-6)
    assert backbone.manifest.class_names[4] == "class 4"
    for count in (1, 3):
        logits, maps = backbone.run(pixels(count))
        with torch.inference_mode():
            given = torch.tensor(pixels(count))
            np.testing.assert_allclose(logits, module(given), atol=1e-5)
            np.testing.assert_allclose(maps, module.features(given), atol=1e-5)


def test_another_head_runs_forward_for_gradient_free_methods(tmp_path):
    written(Gap(nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 5))), tmp_path / "m.onnx")
    report = export_onnx(tmp_path / "m.onnx", tmp_path / "b", preprocessing=STATED)
    assert report.head_kind == "forward"
    assert "for gradient-free methods" in str(report)
    backbone = Backbone(tmp_path / "b")
    assert backbone.capabilities == {Capability.HEAD}
    (one,) = backbone.forward(pixels(1))
    own = backbone.head_logits(one.activation_maps[None], one)[0]
    np.testing.assert_allclose(own, one.logits, atol=1e-5)
    inputs = MethodInput(one.activation_maps, one.logits, np.eye(5)[2], pixels(1)[0])
    for name in ("eigen_cam", "recipro_cam", "ablation_cam", "score_cam"):
        steps = METHODS[name].queries(inputs, MethodSettings())
        terms = run_method(steps, lambda ask: backbone.query(ask, one))
        assert np.isfinite(terms.weights).all()
        assert np.ptp(terms.weights) > 0


def test_it_is_cut_at_a_tensor_or_a_node_by_name(tmp_path):
    written(Gap(), tmp_path / "m.onnx")
    graph = onnx.load(str(tmp_path / "m.onnx")).graph
    first = next(node for node in graph.node if node.op_type == "Relu")
    for name in (first.output[0], first.name):
        report = export_onnx(
            tmp_path / "m.onnx", tmp_path / "b", preprocessing=STATED, target_layer=name
        )
        assert (report.maps_shape, report.head_kind) == ((8, 32, 32), "forward")
    with pytest.raises(ExportRefused, match="no tensor 'relu_x' holds maps; some that do"):
        export_onnx(
            tmp_path / "m.onnx", tmp_path / "b", preprocessing=STATED, target_layer="relu_x"
        )


def test_what_is_no_classifier_is_refused_with_the_mend(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportRefused, match="is no ONNX model"):
        export_onnx(tmp_path / "no.onnx", tmp_path / "b", preprocessing=STATED)
    written(Gap(), tmp_path / "m.onnx")
    with pytest.raises(ExportRefused, match="5 logits, 2 class names"):
        export_onnx(
            tmp_path / "m.onnx", tmp_path / "b", preprocessing=STATED, class_names=("a", "b")
        )
    with pytest.raises(ExportRefused, match="does not run on images"):
        export_onnx(
            tmp_path / "m.onnx", tmp_path / "b", preprocessing=StatedPreprocessing((48, 48))
        )
    assert not (tmp_path / "b").exists()


class Shuffled(nn.Module):
    """Strides of all kinds, a squeeze-and-excitation branch and a channel shuffle, then a mean."""

    def __init__(self, *layers):
        super().__init__()
        self.stem = nn.Sequential(*layers)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 12, 3, 1, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        maps = self.stem(x)
        maps = maps * torch.sigmoid(self.squeeze(maps.mean((2, 3), keepdim=True)))
        count, channels, height, width = maps.shape
        pairs = maps.view(count, 2, channels // 2, height, width).transpose(1, 2)
        maps = torch.relu(self.last(pairs.reshape(count, channels, height, width)))
        return self.head(maps.mean((2, 3)))


# And by how much strides and paddings put a cell off an even grid, pixels.
STEMS = {
    "ResNet's": (
        -3.5, nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1),
    ),
    "padded right and below only": (
        0.5, nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.ReLU()
    ),
    "patches": (0.0, nn.Conv2d(3, 8, 8, 8), nn.ReLU()),
    "dilated": (-0.5, nn.Conv2d(3, 8, 3, 2, 2, dilation=2), nn.ReLU(), nn.AvgPool2d(2)),
}  # fmt: skip


@pytest.mark.parametrize("stem", STEMS)
def test_cells_lie_where_those_of_the_torch_export_lie(tmp_path, stem):
    """Both where random kernels, which make up for nothing, put them on average."""
    shift, *layers = STEMS[stem]
    module = Shuffled(*layers).eval()
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    network = Network("m", module, SIZE, tuple("abcde"))
    export_network(network, tmp_path / "torch", target_layer="last")
    wanted = Backbone(tmp_path / "torch").manifest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter is deprecated, its files are about
        torch.onnx.export(module, torch.zeros(1, 3, 64, 64), tmp_path / "m.onnx", dynamo=False)
    export_onnx(tmp_path / "m.onnx", tmp_path / "onnx", preprocessing=STATED)
    found = Backbone(tmp_path / "onnx").manifest
    assert (found.map_height, found.map_width) == (wanted.map_height, wanted.map_width)
    # One is cut before the last ReLU, the other after it.
    near = 64 / found.map_width / 4
    assert found.grid_shift == pytest.approx(wanted.grid_shift, abs=near)
    assert found.grid_shift == pytest.approx((shift, shift), abs=near)
    if stem == "patches":
        assert found.grid_shift == wanted.grid_shift == (0, 0)


def test_the_command_line_takes_one(tmp_path):
    written(Gap(), tmp_path / "m.onnx")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    done = subprocess.run(
        [TEXTCAM, "export", "--model", f"onnx:{tmp_path / 'm.onnx'}", "--input-size", "64",
         "--classes", str(tmp_path / "names.txt"), "--mean", "127/255", "--std", "0.5,0.25,1",
         "--resize", "64", "--crop-mode", "squash", "--interpolation", "bicubic",
         "--output", str(tmp_path / "b")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "12 channels of 16 x 16" in done.stdout
    manifest = Backbone(tmp_path / "b").manifest
    assert manifest.class_names == ("a", "b", "c", "d", "e")
    assert manifest.preprocessing == Preprocessing(
        64, 64, 64, "bicubic", (127 / 255,) * 3, (0.5, 0.25, 1.0), "squash"
    )
