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
        grid = _after(node, grids, weights, shapes)
        if grid is not None:
            grids[node.output[0]] = grid
    if target not in grids:
        return 0.0, 0.0
    cells, pixels = shapes[target][-2:], shapes[image][-2:]
    down, right = (
        first + step * (count - 1) / 2 - size / 2
        for (step, first), count, size in zip(grids[target], cells, pixels, strict=True)
    )
    return right, down


def _after(
    node: onnx.NodeProto,
    grids: Mapping[str, _Grid],
    weights: Mapping[str, onnx.TensorProto],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Grid | None:
    """The grid of what a node answers; None: it has none, or its cells are rearranged."""
    sources = [name for name in node.input if name in grids]
    extents = shapes.get(node.output[0], ())[-2:]
    if not sources or not extents or node.op_type in _MIXING:
        return None
    if node.op_type in _SLIDING:
        return _slid(node, grids[sources[0]], weights, shapes[sources[0]][-2:])
    if node.op_type == "Pad":
        return _padded(node, grids[sources[0]], weights)
    if node.op_type == "Transpose" and not _keeps_last(node):
        return None
    # Weights by channel and the like are pooled to 1 x 1; a reshape may fold the cells.
    same = [name for name in sources if shapes[name][-2:] == extents]
    return grids[same[0]] if same else None


def _slid(
    node: onnx.NodeProto,
    grid: _Grid,
    weights: Mapping[str, onnx.TensorProto],
    extents: Sequence[int],
) -> _Grid | None:
    """The grid after a convolution or pooling; None: its kernel's size is not stated."""
    kernel = attribute(node, "kernel_shape", None)
    if kernel is None and node.input[1] in weights:
        kernel = weights[node.input[1]].dims[2:]
    if kernel is None:
        return None
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


def _padded(
    node: onnx.NodeProto, grid: _Grid, weights: Mapping[str, onnx.TensorProto]
) -> _Grid | None:
    """The grid with cells before the first; None: their number is not stated."""
    pads = attribute(node, "pads", None)  # until opset 10
    if pads is None and node.input[1] in weights and len(node.input) < 4:  # no choice of axes
        pads = numpy_helper.to_array(weights[node.input[1]]).tolist()
    if pads is None:
        return None
    (down, top), (right, left) = grid
    above, before = pads[len(pads) // 2 - 2 : len(pads) // 2]
    return (down, top - above * down), (right, left - before * right)


def _keeps_last(node: onnx.NodeProto) -> bool:
    order = attribute(node, "perm", [])
    return list(order[-2:]) == [len(order) - 2, len(order) - 1]
