"""Files of half precision, out of order, or of a newer format, as onnxruntime can load them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.export import plan_onnx
from textcam_service.offline.export.from_onnx.portable import (
    in_float32,
    in_order,
    with_older_ir,
)
from textcam_service.offline.export.from_onnx.reading import read_onnx
from textcam_service.offline.networks.network import StatedPreprocessing

SIZE = StatedPreprocessing((32, 32), 36, "bilinear", (0.5,) * 3, (0.25,) * 3)
RNG = np.random.default_rng(2)
PIXELS = RNG.normal(0, 1, (2, 3, 32, 32)).astype(np.float32)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def classifier(*, softmax=True, opset=17, ir_version=8):
    """Two convolutions, their mean, a linear layer and a softmax."""
    weights = {
        "a": RNG.normal(0, 0.3, (6, 3, 4, 4)), "b": RNG.normal(0, 0.3, (8, 6, 3, 3)),
        "w": RNG.normal(0, 1, (4, 8)),
    }  # fmt: skip
    nodes = [
        node("Conv", "image a", "c", strides=[4, 4]), node("Relu", "c", "d"),
        node("Conv", "d b", "e", pads=[1] * 4), node("Relu", "e", "maps"),
        node("GlobalAveragePool", "maps", "pooled"), node("Flatten", "pooled", "means"),
        node("Gemm", "means w", "z", transB=1),
        node("Softmax" if softmax else "Identity", "z", "out"),
    ]  # fmt: skip
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "classifier", [declare("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [declare("out", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],  # noqa: E501
    )  # fmt: skip
    keys = {"ir_version": ir_version} if ir_version else {}
    opsets = [helper.make_opsetid("", opset)] if opset else []
    return helper.make_model(graph, opset_imports=opsets or None, **keys)


def planned(folder, model):
    onnx.save(model, folder / "c.onnx")
    return plan_onnx(folder / "c.onnx", preprocessing=SIZE)


def answered(serialised):
    session = ort.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: PIXELS})[0]


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
def test_a_file_of_float16_is_exported_in_float32(keep_io_types, softmax, tmp_path):
    model = classifier(softmax=softmax)
    wanted = answered(model.SerializeToString())
    half = convert_float_to_float16(model, keep_io_types=keep_io_types)
    found = planned(tmp_path, half)
    assert (found.head.kind, found.target_layer) == ("gap_linear", "maps")
    logits = answered(found.backbone)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) if softmax else logits
    np.testing.assert_allclose(shares, wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_weights_constants_and_casts_become_float32_inside_of_branches_too(kind):
    half = helper.make_tensor("h", kind, [2], [0.5, -3.0])
    branch = helper.make_graph(
        [node("Constant", "", "k", value=half), node("Cast", "k", "o", to=kind)],
        "branch", [], [helper.make_tensor_value_info("o", kind, [2])],
    )  # fmt: skip
    given = helper.make_node("If", ["ask"], ["out"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [given], "g", [helper.make_tensor_value_info("ask", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("out", kind, [2])], [half],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    in_float32(model)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ask": np.array(True)})
    assert (found.dtype, found.tolist()) == (np.float32, [0.5, -3.0])


def test_nodes_are_sorted_after_those_that_they_take_from():
    model = classifier()
    wanted = [own.name or own.output[0] for own in model.graph.node]
    backwards = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    in_order(model.graph)
    assert [own.name or own.output[0] for own in model.graph.node] == wanted


def test_nodes_in_a_circle_are_left_to_the_checker(tmp_path):
    model = classifier()
    model.graph.node[1].input[0] = "maps"
    onnx.save(model, tmp_path / "c.onnx")
    with pytest.raises(ExportRefused, match="topologically sorted"):
        read_onnx(tmp_path / "c.onnx", StatedPreprocessing((32, 32)))


def test_the_format_that_onnx_writes_by_default_is_exported(tmp_path):
    model = classifier(ir_version=0)
    assert planned(tmp_path, model).target_layer == "maps"
    assert read_onnx(tmp_path / "c.onnx", StatedPreprocessing((32, 32))).model.ir_version == 10


def test_an_older_format_stays():
    old = classifier(ir_version=8)
    with_older_ir(old)
    assert old.ir_version == 8


def test_operators_newer_than_onnxruntime_are_refused_with_the_version_to_export(tmp_path):
    onnx.save(classifier(opset=onnx.defs.onnx_opset_version()), tmp_path / "c.onnx")
    try:
        ort.InferenceSession(tmp_path / "c.onnx", providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - of this onnxruntime's own
        with pytest.raises(ExportRefused) as refused:
            plan_onnx(tmp_path / "c.onnx", preprocessing=SIZE)
        said = str(refused.value)
        assert "export it with an older opset, as opset_version=18" in said
        assert "--input-size" not in said
    else:
        assert plan_onnx(tmp_path / "c.onnx", preprocessing=SIZE).target_layer == "maps"
