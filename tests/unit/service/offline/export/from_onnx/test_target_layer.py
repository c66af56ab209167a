"""The tensor at which an ONNX classifier is split."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from textcam_service.artefacts.backbone import ACTIVATION_MAPS, LOGITS
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.dynamic_batch import make_dynamic
from textcam_service.offline.export.from_onnx.nodes import run_model
from textcam_service.offline.export.from_onnx.reading import read_onnx
from textcam_service.offline.export.from_onnx.target_layer import choose_split, split_at
from textcam_service.offline.networks.network import StatedPreprocessing

RNG = np.random.default_rng(0)
WEIGHTS = {
    "first": RNG.normal(size=(4, 3, 2, 2)),
    "second": RNG.normal(size=(6, 4, 1, 1)),
    "dense": RNG.normal(size=(6, 5)),
    "early": RNG.normal(size=(4, 5)),
}
PIXELS = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)


def pooled(maps, weights, output):
    return [
        helper.make_node("GlobalAveragePool", [maps], [f"{output} mean"]),
        helper.make_node("Flatten", [f"{output} mean"], [f"{output} row"]),
        helper.make_node("MatMul", [f"{output} row", weights], [output]),
    ]


def classifier(folder, *, around=False):
    """Two convolutions and a pooled head; `around`: the first one's maps have a head too."""
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["stem"], "the stem", strides=[2, 2]),
        helper.make_node("Conv", ["stem", "second"], ["sums"], "the body"),
        helper.make_node("Tanh", ["sums"], ["body"]),
    ]
    if around:
        nodes += pooled("body", "dense", "late") + pooled("stem", "early", "soon")
        nodes.append(helper.make_node("Add", ["late", "soon"], ["logits"]))
    else:
        nodes += pooled("body", "dense", "logits")
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "classifier",
        [declare("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [declare("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in WEIGHTS.items()],
    )
    opset = helper.make_opsetid("", 17)
    path = folder / "c.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return make_dynamic(read_onnx(path, StatedPreprocessing((8, 8))), PIXELS)


def test_the_last_maps_that_all_passes_are_chosen_with_their_head(tmp_path):
    parts = choose_split(classifier(tmp_path), PIXELS)
    assert (parts.target, parts.shape, parts.contexts) == ("own:body", (6, 4, 4), ())
    logits = run_model(parts.head, "it", {ACTIVATION_MAPS: parts.outputs[ACTIVATION_MAPS]})[LOGITS]
    np.testing.assert_allclose(logits, parts.outputs[LOGITS], rtol=1e-4, atol=1e-5)


def test_maps_that_the_image_goes_around_are_passed_over(tmp_path):
    own = classifier(tmp_path, around=True)
    assert choose_split(own, PIXELS).target == "own:stem"
    named = split_at(own, "body", PIXELS)
    assert (named.target, named.head) == ("own:body", None)
    assert named.without


@pytest.mark.parametrize(
    ("wanted", "target"), [("sums", "own:sums"), ("the stem", "own:stem")], ids=["tensor", "node"]
)
def test_a_split_is_named_by_a_tensor_or_by_a_node(wanted, target, tmp_path):
    parts = split_at(classifier(tmp_path), wanted, PIXELS)
    assert parts.target == target
    assert parts.head is not None


@pytest.mark.parametrize("wanted", ["bodi", "logits row"])
def test_a_name_without_maps_is_refused_with_those_that_hold_some(wanted, tmp_path):
    with pytest.raises(ExportRefused, match=r"no tensor .* holds maps; some that do: \[.*'body'"):
        split_at(classifier(tmp_path), wanted, PIXELS)


@pytest.mark.parametrize("channels", [4, 5])
def test_maps_are_laid_out_right_where_the_graph_has_its_channels_last(channels, tmp_path):
    """As many channels as cells in a row, or nearly: their shapes alone do not tell."""
    kernel = RNG.normal(size=(channels, 3, 2, 2)).astype(np.float32)
    dense = RNG.normal(size=(channels, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["sums"], strides=[2, 2]),
        helper.make_node("Transpose", ["sums"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Tanh", ["last"], ["maps"]),
        helper.make_node("ReduceMean", ["maps"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "dense"], ["logits"]),
    ]
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "classifier",
        [declare("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [declare("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(dense, "dense")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "c.onnx")
    file = read_onnx(tmp_path / "c.onnx", StatedPreprocessing((8, 8)))
    parts = choose_split(make_dynamic(file, PIXELS), PIXELS)
    assert (parts.target, parts.shape) == ("own:maps", (channels, 4, 4))
    patches = PIXELS.reshape(3, 3, 4, 2, 4, 2)
    wanted = np.tanh(np.einsum("ncyixj,dcij->ndyx", patches, kernel))
    np.testing.assert_allclose(parts.outputs[ACTIVATION_MAPS], wanted, rtol=1e-4, atol=1e-5)
