"""Graphs whose maps' cells are put in another order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from textcam_service.core.types import IntArray

_FOUND = ":as_found"


def reordered(
    graph: bytes, inputs: Mapping[str, IntArray], outputs: Mapping[str, IntArray]
) -> bytes:
    """Put the cells of a graph's inputs and outputs (N, D, H, W) in order.

    Args:
        graph: The serialised graph.
        inputs: By name, for each place (H, W) the cell of the graph's own input that belongs there,
            as an index into its rows, one after the other.
        outputs: The same of outputs; names that the graph lacks are passed over.
    """
    model = onnx.load_from_string(graph)
    made = {value.name for value in model.graph.output} & set(outputs)
    _rename(model.graph.node, {name: name + _FOUND for name in (*inputs, *made)})
    before = [
        node
        for name, order in inputs.items()
        for node in _gathered(model.graph, name, name + _FOUND, _inverse(order))
    ]
    after = [
        node for name in made for node in _gathered(model.graph, name + _FOUND, name, outputs[name])
    ]
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _gathered(
    graph: onnx.GraphProto, source: str, target: str, order: IntArray
) -> list[onnx.NodeProto]:
    """Make the nodes that pick the cells (H, W), and add their weights."""
    flat, rows, cells = f"{target}:flat", f"{target}:rows", f"{target}:cells"
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), rows))
    graph.initializer.append(numpy_helper.from_array(np.asarray(order, np.int64), cells))
    return [
        helper.make_node("Reshape", [source, rows], [flat]),
        helper.make_node("Gather", [flat, cells], [target], axis=2),
    ]


def _inverse(order: IntArray) -> IntArray:
    return np.argsort(order, axis=None).reshape(order.shape)


def _rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Rename tensors, inside of branches too, which see those around them."""
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g.node, names)
