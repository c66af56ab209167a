"""A graph's backward half under an If: the same outputs, and zeros without class weights."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from textcam_service.offline.export.from_torch.conditional_gradient import conditional_gradient


def _head():
    """Logits = mean of the maps; gradient = class weights / cells, over the map's shape."""
    declare = helper.make_tensor_value_info
    maps = declare("activation_maps", TensorProto.FLOAT, ["N", 3, 2, 2])
    weights = declare("class_weights", TensorProto.FLOAT, ["N", 3])
    quarter = helper.make_tensor("quarter", TensorProto.FLOAT, [1, 1, 2, 2], [0.25] * 4)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["activation_maps", "axes"], ["logits"], keepdims=0),
        helper.make_node("Unsqueeze", ["class_weights", "axes"], ["spread"]),
        helper.make_node("Mul", ["spread", "quarter"], ["gradient"]),
    ]
    outputs = [
        declare("logits", TensorProto.FLOAT, ["N", 3]),
        declare("gradient", TensorProto.FLOAT, ["N", 3, 2, 2]),
    ]
    graph = helper.make_graph(nodes, "head", [maps, weights], outputs, [quarter, axes])
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def _run(graph, weights):
    maps = np.random.default_rng(0).normal(size=(len(weights), 3, 2, 2)).astype(np.float32)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = ["logits", "gradient"]
    return session.run(names, {"activation_maps": maps, "class_weights": weights})


def test_outputs_stay_the_same_whether_gradients_are_wanted_or_not():
    plain, conditional = _head(), conditional_gradient(_head())
    onnx.checker.check_model(onnx.load_from_string(conditional))
    for weights in (np.zeros((2, 3)), -np.eye(3), np.eye(3)[:1]):
        given = weights.astype(np.float32)
        for wanted, found in zip(_run(plain, given), _run(conditional, given), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_only_the_nodes_of_the_logits_stay_outside_of_the_branch():
    graph = onnx.load_from_string(conditional_gradient(_head())).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds == ["ReduceMean", "Abs", "ReduceMax", "Greater", "If"]
    (branch,) = [node for node in graph.node if node.op_type == "If"]
    branches = {one.name: [node.op_type for node in one.g.node] for one in branch.attribute}
    assert branches["then_branch"] == ["Unsqueeze", "Mul"]
    assert "Mul" not in branches["else_branch"]
