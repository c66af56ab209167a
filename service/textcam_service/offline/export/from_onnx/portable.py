"""Users' ONNX files in the form that onnxruntime's CPU loads: float32, in order, of an older IR."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_IR = 10  # onnx 1.16's, which every onnxruntime that the service takes can load


def in_order(graph: onnx.GraphProto) -> None:
    """Sort nodes after those that they take from, in place, as the standard wants it.

    Nodes that never find their inputs stay as they are; the checker names them.
    """
    made = {name for node in graph.node for name in node.output if name}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if made.isdisjoint(taken(node))]
        if not ready:
            return
        ordered += ready
        chosen = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in chosen]
        made = {name for node in waiting for name in node.output if name}
    if [id(node) for node in ordered] != [id(node) for node in graph.node]:
        del graph.node[:]
        graph.node.extend(ordered)


def taken(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that a node takes, inside of its subgraphs too."""
    inner = {name for graph in _subgraphs(node) for own in graph.node for name in taken(own)}
    return {*node.input, *inner}


def in_float32(model: onnx.ModelProto) -> None:
    """Turn float16 and bfloat16 into float32 throughout a model, in place.

    The weights keep their values.
    """
    for function in model.functions:
        for node in function.node:
            _node_in_float32(node)
    _graph_in_float32(model.graph)


def with_older_ir(model: onnx.ModelProto) -> None:
    """Lower the version of the file's format where nothing in it needs a newer one, in place.

    onnx writes its own newest by default, which an onnxruntime of the same day may refuse to
    load. What the nodes compute follows from the operators' version alone.
    """
    if model.ir_version <= _IR:
        return
    newest, model.ir_version = model.ir_version, _IR
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        model.ir_version = newest


def _graph_in_float32(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _tensor_in_float32(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        _node_in_float32(node)


def _node_in_float32(node: onnx.NodeProto) -> None:
    for own in node.attribute:
        if own.name in {"to", "dtype", "output_dtype"} and own.i in _HALVES:
            own.i = TensorProto.FLOAT
        if own.HasField("t"):
            _tensor_in_float32(own.t)
        for tensor in own.tensors:
            _tensor_in_float32(tensor)
    for graph in _subgraphs(node):
        _graph_in_float32(graph)


def _tensor_in_float32(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _HALVES:
        whole = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(whole, tensor.name))


def _subgraphs(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for own in node.attribute:
        if own.HasField("g"):
            yield own.g
        yield from own.graphs
