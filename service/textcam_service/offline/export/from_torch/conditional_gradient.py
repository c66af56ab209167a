"""Graphs of heads that run their backward half only if a gradient is requested.

onnxruntime runs every node of a graph, whichever outputs are fetched: a forward pass of the head
took as long as one with its gradient (with ViT-B/16, 2.4 times a graph without the gradient). Two
files would hold the weights twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, CLASS_WEIGHTS, LOGITS

_INSIDE = "_pulled"


def conditional_gradient(serialized: bytes) -> bytes:
    """Move all nodes that the logits do not need into an If; class weights of 0 skip it.

    The outputs stay the same: with weights of 0, all gradients are 0.

    Args:
        serialized: A graph of ACTIVATION_MAPS, CLASS_WEIGHTS and contexts to LOGITS and gradients,
            each (N, ...) with all extents known but N.
    """
    model = onnx.load_from_string(serialized)
    graph = model.graph
    forward = _ancestors(graph.node, LOGITS)
    backward = [node for index, node in enumerate(graph.node) if index not in forward]
    kept = [node for index, node in enumerate(graph.node) if index in forward]
    outputs = [value for value in graph.output if value.name != LOGITS]
    inner = {value.name: value.name + _INSIDE for value in outputs}
    zero = numpy_helper.from_array(np.zeros((), np.float32), "lazy_zero")
    condition = [
        helper.make_node("Abs", [CLASS_WEIGHTS], ["lazy_sizes"]),
        helper.make_node("ReduceMax", ["lazy_sizes"], ["lazy_size"], keepdims=0),
        helper.make_node("Greater", ["lazy_size", zero.name], ["lazy_asked"]),
    ]
    branch = helper.make_node(
        "If",
        ["lazy_asked"],
        [value.name for value in outputs],
        then_branch=_branch("pulled", [_renamed(node, inner) for node in backward], outputs, inner),
        else_branch=_branch("nothing", _zeros(outputs, inner), outputs, inner),
    )
    del graph.node[:], graph.value_info[:]
    graph.node.extend([*kept, *condition, branch])
    graph.initializer.append(zero)
    return bytes(model.SerializeToString())


def _ancestors(nodes: Sequence[onnx.NodeProto], output: str) -> set[int]:
    """Return the indices of the nodes, given in order, that an output needs."""
    needed, found = {output}, set()
    for index in reversed(range(len(nodes))):
        if needed & set(nodes[index].output):
            found.add(index)
            needed |= set(nodes[index].input)
    return found


def _branch(
    name: str,
    nodes: Iterable[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    inner: Mapping[str, str],
) -> onnx.GraphProto:
    own = []
    for value in outputs:
        own.append(onnx.ValueInfoProto())
        own[-1].CopyFrom(value)
        own[-1].name = inner[value.name]
    return helper.make_graph(list(nodes), name, [], own)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        values[:] = [names.get(value, value) for value in values]
    return copy


def _zeros(
    outputs: Sequence[onnx.ValueInfoProto], inner: Mapping[str, str]
) -> list[onnx.NodeProto]:
    """Make nodes for zeros of the outputs' shapes; the batch is the activation maps'."""
    nodes = [helper.make_node("Shape", [ACTIVATION_MAPS], ["lazy_batch"], start=0, end=1)]
    for value in outputs:
        name = inner[value.name]
        extents = [extent.dim_value for extent in value.type.tensor_type.shape.dim[1:]]
        rest = numpy_helper.from_array(np.array(extents, np.int64))
        nodes += [
            helper.make_node("Constant", [], [name + "_rest"], value=rest),
            helper.make_node("Concat", ["lazy_batch", name + "_rest"], [name + "_shape"], axis=0),
            helper.make_node("ConstantOfShape", [name + "_shape"], [name]),
        ]
    return nodes
