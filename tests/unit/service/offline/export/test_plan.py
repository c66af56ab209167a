"""One plan, one manifest: what is planned is what the folder and the report state."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from textcam_service.core.types import Preprocessing
from textcam_service.errors import FolderTaken
from textcam_service.offline.export.plan import ExportedHead, ExportPlan, write_export
from textcam_service.offline.export.tensor_layout import Layout

SIZE = Preprocessing(36, 32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _backbone():
    """Average pooling to 4 x 4 of the three colours: even cells, no offset."""
    declare = helper.make_tensor_value_info
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["activation_maps"], kernel_shape=[8, 8], strides=[8, 8]
        ),
        helper.make_node("Identity", ["activation_maps"], ["layer_0"]),
        helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "backbone",
        [declare("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [
            declare("logits", TensorProto.FLOAT, ["N", 3]),
            declare("activation_maps", TensorProto.FLOAT, ["N", 3, 4, 4]),
            declare("layer_0", TensorProto.FLOAT, ["N", 3, 4, 4]),
        ],
    )
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def _plan(**changes):
    given = {
        "architecture": "tiny",
        "target_layer": "stem",
        "weights_digest": "sha256:0",
        "preprocessing": SIZE,
        "class_names": ("a", "b", "c"),
        "layout": Layout("NCHW", 3, 4, 4),
        "backbone": _backbone(),
        "outputs": (),
        "head": ExportedHead("gap_linear", linear=(np.eye(3, dtype="f4"), np.zeros(3, "f4"))),
        "logits_error": 1e-6,
        "maps_error": 2e-5,
        "exporter": {"onnx": "1"},
    }
    return ExportPlan(**{**given, **changes})


def _written(folder):
    return json.loads((folder / "backbone.json").read_text())


def test_a_closed_form_is_written_without_a_graph_of_the_head(tmp_path):
    report = write_export(_plan(), tmp_path / "b")
    manifest = _written(tmp_path / "b")
    assert not (tmp_path / "b" / "head.onnx").exists()
    assert (manifest["channel_count"], manifest["map_height"], manifest["map_width"]) == (3, 4, 4)
    assert manifest["exporter"] == {"onnx": "1", "max_parity_error": "2e-05"}
    assert manifest["grid_shift"] == [0, 0]
    assert (manifest["head_inputs"], manifest["layers_inputs"]) == ([], [])
    assert (report.maps_shape, report.class_count) == ((3, 4, 4), 3)
    assert "global average pooling and a linear head" in str(report)


def test_the_reports_errors_are_the_worst_of_the_backbones_and_the_heads(tmp_path):
    plan = _plan(
        head=ExportedHead("gradient", b"head", ("context_0",), ("attention",), None, 3e-5, 4e-4),
        layers=("stem.0",),
        layers_head=ExportedHead("gradient", b"layers", ("prefix",), (), None, 5e-5, 2e-4),
        outputs=("layer_0", "prefix", "context_0"),
    )
    report = write_export(plan, tmp_path / "b")
    assert (report.logits_error, report.maps_error, report.gradient_error) == (5e-5, 2e-5, 4e-4)
    manifest = _written(tmp_path / "b")
    assert (tmp_path / "b" / "head.onnx").read_bytes() == b"head"
    assert (tmp_path / "b" / "layers.onnx").read_bytes() == b"layers"
    assert manifest["attention"] is True
    assert (manifest["head_inputs"], manifest["layers_inputs"]) == (["context_0"], ["prefix"])
    assert manifest["layers"] == ["stem.0"]


def test_a_head_that_does_not_run_states_no_inputs(tmp_path):
    head = ExportedHead("none", None, ("context_0",), without="an operation is missing")
    report = write_export(_plan(head=head), tmp_path / "b")
    assert _written(tmp_path / "b")["head_inputs"] == []
    assert "no head (an operation is missing)" in str(report)


def test_maps_on_vertices_are_drawn_on_a_grid_and_have_no_offset(tmp_path):
    layout = Layout("tokens", 3, 16, 1)
    report = write_export(_plan(layout=layout, vertices=16), tmp_path / "b")
    manifest = _written(tmp_path / "b")
    assert (manifest["vertices"], manifest["grid_shift"]) == (16, [0, 0])
    assert manifest["map_height"] * manifest["map_width"] > 16
    assert report.maps_shape == (3, 16, 1)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(FolderTaken):
        write_export(_plan(), tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["letter.txt"]


def test_the_report_says_how_classes_without_names_get_some(tmp_path):
    named = write_export(_plan(notes=("said",)), tmp_path / "b")
    assert named.notes == ("said",)
    numbered = write_export(_plan(class_names=("class 0", "class 1", "class 2")), tmp_path / "b")
    assert "--classes FILE" in str(numbered)
