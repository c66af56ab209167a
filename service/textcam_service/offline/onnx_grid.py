"""Where the cells of an ONNX graph's maps look in the image; see offline.grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import numpy_helper

from textcam_service.offline.onnx_nodes import attribute

_SLIDING = {"Conv", "MaxPool", "AveragePool", "LpPool"}
_MIXING = {"MatMul", "Gemm", "ConvTranspose"}

# Per axis (down, right): step between cells, and the first cell's centre; pixels of the input.
_Grid = tuple[tuple[float, float], tuple[float, float]]


def onnx_grid_shift(
    graph: onnx.GraphProto, image: str, target: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[float, float]:
    """By how much a tensor's cells lie (right, below) of an even grid over the input, pixels.

    From the kernels, strides and paddings on the way, as if the image had no border; at the
    grid's middle, where its spacing is another. (0, 0) where the cells are rearranged on all
    ways, as in transformers, whose patches shift nothing.

    Args:
        graph: The graph.
        image: Its input's name.
        target: The tensor that holds the maps (N, D, H, W).
        shapes: Of its tensors, without the batch.
    """
    grids: dict[str, _Grid] = {image: ((1.0, 0.5), (1.0, 0.5))}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        source = next((name for name in node.input if name in grids), "")
        own, extents = shapes.get(source, ())[-2:], shapes.get(node.output[0], ())[-2:]
        if not source or node.op_type in _MIXING:
            continue
        if node.op_type in _SLIDING:
            kernel = attribute(node, "kernel_shape", None) or weights[node.input[1]].dims[2:]
            grids[node.output[0]] = _slid(node, grids[source], kernel, own)
        elif node.op_type == "Pad":
            begins = _pad_begins(node, weights)
            grids.update({node.output[0]: _moved(grids[source], begins)} if begins else {})
        elif node.op_type == "Transpose" and not _keeps_last(node):
            continue
        else:
            # Weights by channel and the like are pooled to 1 x 1; a reshape may fold the cells.
            kept = [n for n in node.input if n in grids and shapes[n][-2:] == extents]
            grids.update(dict.fromkeys(node.output, grids[kept[0]]) if kept else {})
    if target not in grids:
        return 0.0, 0.0
    cells, pixels = shapes[target][-2:], shapes[image][-2:]
    down, right = (
        first + step * (count - 1) / 2 - size / 2
        for (step, first), count, size in zip(grids[target], cells, pixels, strict=True)
    )
    return right, down


def _slid(
    node: onnx.NodeProto, grid: _Grid, kernel: Sequence[int], extents: Sequence[int]
) -> _Grid:
    """The grid after a convolution or pooling."""
    strides = attribute(node, "strides", [1, 1])
    dilations = attribute(node, "dilations", [1, 1])
    begins = list(attribute(node, "pads", [0, 0])[:2])
    rule = attribute(node, "auto_pad", b"NOTSET")
    made = []
    for axis, (step, first) in enumerate(grid):
        reach, stride = dilations[axis] * (kernel[axis] - 1), strides[axis]
        if rule in {b"SAME_UPPER", b"SAME_LOWER"}:
            padding = max((-(-extents[axis] // stride) - 1) * stride + reach + 1 - extents[axis], 0)
            begins[axis] = padding // 2 if rule == b"SAME_UPPER" else -(-padding // 2)
        made.append((step * stride, first + (reach / 2 - begins[axis]) * step))
    return made[0], made[1]


def _moved(grid: _Grid, begins: Sequence[int]) -> _Grid:
    """The grid after cells were added before the first."""
    (down, top), (right, left) = grid
    return (down, top - begins[0] * down), (right, left - begins[1] * right)


def _pad_begins(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> list[int]:
    """How many rows and columns a Pad adds before the first; empty: it is not stated."""
    pads = attribute(node, "pads", None)  # until opset 10
    if pads is None and len(node.input) > 1 and node.input[1] in weights:
        pads = numpy_helper.to_array(weights[node.input[1]]).tolist()
    return pads[len(pads) // 2 - 2 : len(pads) // 2] if pads else []


def _keeps_last(node: onnx.NodeProto) -> bool:
    order = attribute(node, "perm", [])
    return list(order[-2:]) == [len(order) - 2, len(order) - 1]
