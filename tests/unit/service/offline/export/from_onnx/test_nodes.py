"""Small ONNX graphs: what depends on what, other outputs, and how they run."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.nodes import (
    attribute,
    channels_last,
    is_close,
    reachable,
    run_model,
    value,
    weight,
    with_outputs,
)


def model(nodes, output="out"):
    graph = helper.make_graph(nodes, "graph", [value("x", (3,))], [value(output, (3,))])
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def test_values_reach_other_tensors_and_sizes_do_not():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Shape", ["a"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Add", ["a", "zeros"], ["b"]),
    ]
    assert reachable(nodes, "x") == {"x", "a", "b"}


def test_an_attribute_that_is_left_out_has_its_default():
    node = helper.make_node("Shape", ["x"], ["size"], start=1)
    assert attribute(node, "start", 0) == 1
    assert attribute(node, "end", None) is None


def test_other_tensors_become_outputs_of_a_copy():
    given = model([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["out"])])
    other = with_outputs(given, ["a"])
    x = np.array([[-1, 0, 2]], np.float32)
    assert run_model(other, "it", {"x": x})["a"].tolist() == [[0, 0, 2]]
    assert run_model(given, "it", {"x": x})["out"].tolist() == [[0, 0, -2]]


def test_a_weight_is_added_under_its_name():
    given = model([helper.make_node("Reshape", ["x", "size"], ["out"])])
    assert weight(given.graph, "size", [3, -1]) == "size"
    assert run_model(given, "it", {"x": np.ones((1, 3), np.float32)})["out"].shape == (3, 1)


def test_what_does_not_load_or_run_is_refused_by_name():
    broken = model([helper.make_node("Nothing", ["x"], ["out"])])
    with pytest.raises(ExportRefused, match="the head: onnxruntime cannot load it"):
        run_model(broken, "the head", {"x": np.ones((1, 3), np.float32)})
    whole = model([helper.make_node("Relu", ["x"], ["out"])])
    with pytest.raises(ExportRefused, match=r"the head does not run on \(1, 5\)"):
        run_model(whole, "the head", {"x": np.ones((1, 5), np.float32)})


def test_arrays_agree_on_their_own_scale_and_zeros_never():
    tiny = np.array([1e-9, -2e-9])
    assert is_close(tiny * 1.00001, tiny)
    assert not is_close(tiny * 1.001, tiny)
    assert not is_close(np.zeros(2), np.zeros(2))


def test_values_are_declared_with_a_free_batch():
    declared = value("x", (3, 5)).type.tensor_type
    assert declared.elem_type == TensorProto.FLOAT
    assert declared.shape.dim[0].dim_param == "N"
    assert [dim.dim_value for dim in declared.shape.dim[1:]] == [3, 5]


def test_maps_with_their_channels_last_are_known_by_a_transpose():
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w"], ["first"]),
        make("Transpose", ["first"], ["last"], perm=[0, 2, 3, 1]),
        make("Relu", ["last"], ["still"]),
        make("Add", ["other", "still"], ["sum"]),
        make("Transpose", ["sum"], ["back"], perm=[0, 3, 1, 2]),
        make("Relu", ["back"], ["first too"]),
        make("Reshape", ["sum", "size"], ["tokens"]),
    ]
    assert channels_last(nodes) == {"last", "still", "sum"}
