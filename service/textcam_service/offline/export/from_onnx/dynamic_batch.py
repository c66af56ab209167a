"""Dynamic batch for a user's ONNX classifier that was exported for a fixed number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import onnx
from onnx import compose, helper

from textcam_service.core.types import Float32Array
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.nodes import (
    attribute,
    channels_last,
    is_close,
    reachable,
    run_loaded,
    run_model,
    session,
    weight,
    with_outputs,
)
from textcam_service.offline.export.from_onnx.reading import OWN, OnnxFile

COUNT = "count"  # a tensor that holds the number of images, (1,) int64

_Sizes: TypeAlias = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class OnnxClassifier:
    """A user's classifier for any number of images.

    Attributes:
        file: The classifier as it was read.
        model: Its graph with a free batch; sizes that it reads off the images come from COUNT.
        looped: True if the batch could not be made free: the graph takes one image, and must be
            looped.
        shapes: Shapes of the tensors that hold one image after the other, by name, without the
            batch.
    """

    file: OnnxFile
    model: onnx.ModelProto
    looped: bool
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def class_count(self) -> int:
        """Number of classes, C."""
        return self.shapes[self.file.logits][0]

    @cached_property
    def channels_last(self) -> frozenset[str]:
        """Tensors that are known to hold maps (N, H, W, D)."""
        return channels_last(self.model.graph.node)

    def served(self, part: onnx.ModelProto) -> onnx.ModelProto:
        """Make a part of the graph take any number of images."""
        return _with_loop(part) if self.looped else part


def make_dynamic(file: OnnxFile, pixels: Float32Array) -> OnnxClassifier:
    """Make a classifier's batch free; if that fails, loop over the images.

    Args:
        file: The classifier.
        pixels: Three sample images (3, 3, h, w).

    Raises:
        ExportRefused: It does not run, or its output is not (N, C), or it takes a fixed number
            of images, not 1, which cannot be made free.
    """
    if file.batch:
        return _from_fixed(file, pixels)
    try:
        return _with_batch_nodes(
            file, file.model, _sizes_of_two_and_three(file, file.model, pixels)
        )
    except ExportRefused as refused:
        try:  # its input may promise more than its reshapes hold
            return _from_fixed(replace(file, batch=1), pixels)
        except ExportRefused:
            raise refused from None


def _from_fixed(file: OnnxFile, pixels: Float32Array) -> OnnxClassifier:
    """Make a classifier for any number of images from one for a fixed number."""
    baked = _sizes(file, file.model, np.resize(pixels, (file.batch, *pixels.shape[1:])))
    try:
        model = _with_free_batch(file, baked)
        free = _with_batch_nodes(file, model, _sizes_of_two_and_three(file, model, pixels))
        found = run_model(free.model, file.path, {file.image: pixels})[file.logits]
        (wanted,) = run_each(file, file.model, pixels)
        if is_close(found, wanted):
            return free
    except ExportRefused:
        pass  # something else holds the batch's size
    if file.batch != 1:
        raise ExportRefused(
            f"{file.path} takes {file.batch} images at once, and its batch cannot be made free; "
            "export it with a free batch size, or with one of 1"
        )
    return _with_batch_nodes(file, file.model, [baked])


def run_each(file: OnnxFile, model: onnx.ModelProto, pixels: Float32Array) -> list[Float32Array]:
    """Run a file's graph on each image alone, and return its outputs (N, ...).

    Args:
        file: The classifier.
        model: Its original graph.
        pixels: (N, 3, h, w).
    """
    loaded, times = session(model, file.path), max(file.batch, 1)
    found = [loaded.run(None, {file.image: np.stack([one] * times)}) for one in pixels]
    return [np.concatenate([answer[:1] for answer in own]) for own in zip(*found, strict=True)]


def count_nodes(graph: onnx.GraphProto, source: str) -> list[onnx.NodeProto]:
    """Make nodes that compute COUNT, from a tensor that holds as many images."""
    first = weight(graph, f"{COUNT}:axis", [0])
    return [
        helper.make_node("Shape", [source], [f"{COUNT}:sizes"]),
        helper.make_node("Gather", [f"{COUNT}:sizes", first], [COUNT], axis=0),
    ]


def _sizes(file: OnnxFile, model: onnx.ModelProto, pixels: Float32Array) -> _Sizes:
    """Run the graph and return the shapes of all tensors that depend on the image."""
    # Only sizes are outputs, so that onnxruntime frees each tensor once it has been used.
    asked = {name: f"size:{name}" for name in sorted(reachable(model.graph.node, file.image))}
    made = with_outputs(model, [file.logits, *asked.values()])
    made.graph.node.extend(helper.make_node("Shape", [name], [own]) for name, own in asked.items())
    loaded = session(made, file.path)
    try:
        found = run_loaded(loaded, file.path, {file.image: pixels})
    except ExportRefused as refused:
        raise ExportRefused(
            f"{refused}; export it with a free batch size, and state its --input-size"
        ) from refused
    return {name: tuple(map(int, found[own])) for name, own in asked.items()}


def _sizes_of_two_and_three(
    file: OnnxFile, model: onnx.ModelProto, pixels: Float32Array
) -> list[_Sizes]:
    return [_sizes(file, model, pixels[:count]) for count in (2, 3)]


def _with_free_batch(file: OnnxFile, baked: _Sizes) -> onnx.ModelProto:
    """Remove the batch's size from the graph's input, output and reshapes."""
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    graph = model.graph
    for tensor in (*graph.input, *graph.output):
        if tensor.name in {file.image, file.logits} and tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    for node in graph.node:
        size = baked.get(node.output[0], (0,))
        if node.op_type == "Reshape" and all(size) and size[0] % file.batch == 0:
            node.input[1] = weight(graph, f"shape:{node.output[0]}", [-1, *size[1:]])
    return model


def _with_batch_nodes(
    file: OnnxFile, model: onnx.ModelProto, sizes: Sequence[_Sizes]
) -> OnnxClassifier:
    """Take sizes of the image's tensors from COUNT, so that the graph can be split anywhere.

    Args:
        file: The classifier.
        model: Its graph.
        sizes: Its tensors' sizes: for 2 and 3 images, or for 1 if it takes no more.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(count_nodes(graph, file.image))
    for node in nodes:
        if node.op_type == "Shape" and node.input[0] in sizes[0]:
            asked = slice(attribute(node, "start", 0), attribute(node, "end", None))
            first, last = (own[node.input[0]][asked] for own in (sizes[0], sizes[-1]))
            graph.node.extend(_size_nodes(graph, node.output[0], first, last))
        else:
            graph.node.append(node)
    shapes = {
        name: size[1:]
        for name, size in sizes[0].items()
        if _is_per_image([own[name] for own in sizes])
    }
    if len(shapes.get(file.logits, ())) != 1:
        raise ExportRefused(f"{file.path}: {file.logits.removeprefix(OWN)!r} is not (N, C) logits")
    return OnnxClassifier(file, made, len(sizes) == 1, shapes)


def _size_nodes(
    graph: onnx.GraphProto, out: str, first: Sequence[int], last: Sequence[int]
) -> list[onnx.NodeProto]:
    """Make nodes that compute a size from COUNT; one image more makes `last` of `first`."""
    slope = [own - other for own, other in zip(last, first, strict=True)]
    rest = [own - 2 * step for own, step in zip(first, slope, strict=True)]
    scaled, added = weight(graph, f"slope:{out}", slope), weight(graph, f"rest:{out}", rest)
    return [
        helper.make_node("Mul", [COUNT, scaled], [f"scaled:{out}"]),
        helper.make_node("Add", [f"scaled:{out}", added], [out]),
    ]


def _is_per_image(sizes: Sequence[tuple[int, ...]]) -> bool:
    """Return True if the first dimension counts the images, and no other depends on them."""
    counts = [(1,)] if len(sizes) == 1 else [(2,), (3,)]
    return [size[:1] for size in sizes] == counts and len({size[1:] for size in sizes}) == 1


def _with_loop(part: onnx.ModelProto) -> onnx.ModelProto:
    """Loop a graph of one image over the images of a batch."""
    inner = compose.add_prefix_graph(part.graph, "one:")

    def each(tensor: onnx.ValueInfoProto) -> tuple[str, list[int]]:
        return f"each:{tensor.name}", [d.dim_value for d in tensor.type.tensor_type.shape.dim][1:]

    nodes = list(inner.node)
    for place, tensor in enumerate(inner.input):
        name, shape = each(tensor)
        size = weight(inner, f"enter:{name}", [1, *shape])
        nodes.insert(place, helper.make_node("Reshape", [name, size], [tensor.name]))
    for tensor in inner.output:
        name, shape = each(tensor)
        size = weight(inner, f"leave:{name}", shape)
        nodes.append(helper.make_node("Reshape", [tensor.name, size], [name]))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in own]
        for own in (map(each, inner.input), map(each, inner.output))
    )
    body = helper.make_graph(nodes, "one image", inputs, outputs, inner.initializer)
    given, found = part.graph.input, part.graph.output
    loop = helper.make_node(
        "Scan",
        [tensor.name for tensor in given],
        [tensor.name for tensor in found],
        body=body,
        num_scan_inputs=len(given),
    )
    graph = helper.make_graph([loop], "images", given, found)
    made = onnx.ModelProto(ir_version=part.ir_version, graph=graph)
    made.opset_import.extend(part.opset_import)
    return made
