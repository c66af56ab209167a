"""Splitting a user's ONNX graph: up to its maps and logits, and from its maps on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT, LOGITS
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.dynamic_batch import (
    COUNT,
    OnnxClassifier,
    count_nodes,
)
from textcam_service.offline.export.from_onnx.nodes import (
    is_close,
    session,
    value,
    weight,
    with_outputs,
)
from textcam_service.offline.export.from_onnx.reading import OWN
from textcam_service.offline.export.tensor_layout import Layout

PREFIX = "prefix"
_CHUNK = 32
_CELLS = 64  # positions that is_spatial changes
_MIN_SHARE = 0.5  # share of positions that must matter

Head: TypeAlias = Callable[[FloatArray], Float32Array]
"""Maps (M, D, H, W) to logits (M, C)."""


def with_maps(model: onnx.ModelProto, logits: str, target: str, layout: Layout) -> onnx.ModelProto:
    """Give a whole graph the outputs LOGITS, ACTIVATION_MAPS and, if there is one, PREFIX."""
    made = with_outputs(model, [])
    graph = made.graph
    make = helper.make_node
    grid = "grid" if layout.prefix else target
    graph.node.append(make("Identity", [logits], [LOGITS]))
    if layout.prefix:
        cells = layout.height * layout.width
        first = weight(graph, "prefix:places", range(layout.prefix))
        rest = weight(graph, "grid:places", range(layout.prefix, layout.prefix + cells))
        graph.node.append(make("Gather", [target, first], [PREFIX], axis=1))
        graph.node.append(make("Gather", [target, rest], [grid], axis=1))
    if layout.kind == "tokens":
        size = weight(graph, "maps:shape", [0, 0, layout.height, layout.width])
        graph.node.append(make("Transpose", [grid], ["turned"], perm=[0, 2, 1]))
        graph.node.append(make("Reshape", ["turned", size], [ACTIVATION_MAPS]))
    elif layout.kind == "NHWC":
        graph.node.append(make("Transpose", [target], [ACTIVATION_MAPS], perm=[0, 3, 1, 2]))
    else:
        graph.node.append(make("Identity", [target], [ACTIVATION_MAPS]))
    names = [LOGITS, ACTIVATION_MAPS, *([PREFIX] if layout.prefix else [])]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return made


def backbone_model(classifier: OnnxClassifier, target: str, layout: Layout) -> onnx.ModelProto:
    """Make the graph INPUT -> LOGITS, ACTIVATION_MAPS and, if there is one, PREFIX."""
    file = classifier.file
    made = with_maps(classifier.model, file.logits, target, layout)
    graph = made.graph
    del graph.input[:], graph.output[:]
    graph.input.append(value(INPUT, classifier.shapes[file.image]))
    graph.node.insert(0, helper.make_node("Identity", [INPUT], [file.image]))
    graph.output.append(value(LOGITS, (classifier.class_count,)))
    graph.output.append(value(ACTIVATION_MAPS, (layout.channels, layout.height, layout.width)))
    if layout.prefix:
        graph.output.append(value(PREFIX, (layout.prefix, layout.channels)))
    return classifier.served(made)


def head_model(classifier: OnnxClassifier, target: str, layout: Layout) -> onnx.ModelProto:
    """Make the graph ACTIVATION_MAPS and, if there is one, PREFIX -> LOGITS.

    Raises:
        ExportRefused: More of the image goes around the maps to the logits.
    """
    file, whole = classifier.file, classifier.model
    needed = {file.logits}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(whole.graph.node):
        if not needed.isdisjoint(node.output) and {target, COUNT}.isdisjoint(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
    if file.image in needed:
        raise ExportRefused(
            f"more of the image than {target.removeprefix(OWN)} leads to the logits; cut where "
            "all of the network passes, as at the output of a block"
        )
    made = onnx.ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import)
    graph = made.graph
    graph.name = "head"
    graph.initializer.extend(one for one in whole.graph.initializer if one.name in needed)
    graph.input.append(value(ACTIVATION_MAPS, (layout.channels, layout.height, layout.width)))
    if layout.prefix:
        graph.input.append(value(PREFIX, (layout.prefix, layout.channels)))
    _rebuild_tensor(graph, target, layout)
    graph.node.extend([*count_nodes(graph, ACTIVATION_MAPS), *nodes])
    graph.node.append(helper.make_node("Identity", [file.logits], [LOGITS]))
    graph.output.append(value(LOGITS, (classifier.class_count,)))
    return classifier.served(made)


def _rebuild_tensor(graph: onnx.GraphProto, target: str, layout: Layout) -> None:
    """Add nodes that rebuild the tensor from ACTIVATION_MAPS and PREFIX."""
    make = helper.make_node
    grid = "grid" if layout.prefix else target
    if layout.kind == "tokens":
        size = weight(graph, "maps:shape", [0, 0, -1])
        graph.node.append(make("Reshape", [ACTIVATION_MAPS, size], ["turned"]))
        graph.node.append(make("Transpose", ["turned"], [grid], perm=[0, 2, 1]))
    elif layout.kind == "NHWC":
        graph.node.append(make("Transpose", [ACTIVATION_MAPS], [target], perm=[0, 2, 3, 1]))
    else:
        graph.node.append(make("Identity", [ACTIVATION_MAPS], [target]))
    if layout.prefix:
        graph.node.append(make("Concat", [PREFIX, grid], [target], axis=1))


def load_head(model: onnx.ModelProto, contexts: Mapping[str, FloatArray]) -> Head:
    """Load a head's graph as a function.

    Args:
        model: The graph.
        contexts: One image's further inputs (1, ...), by name.
    """
    loaded = session(model, "the head")

    def run(maps: FloatArray) -> Float32Array:
        found = []
        for start in range(0, len(maps), _CHUNK):
            part = np.asarray(maps[start : start + _CHUNK], np.float32)
            feeds = {name: np.repeat(one, len(part), axis=0) for name, one in contexts.items()}
            found.append(loaded.run([LOGITS], {ACTIVATION_MAPS: part, **feeds})[0])
        return np.concatenate(found)

    return run


def closed_form(
    head: Head, shape: tuple[int, int, int]
) -> tuple[Float32Array, Float32Array] | None:
    """Measure weights (C, D) and bias (C,), if the logits are linear in the mean of the maps.

    Measuring needs no knowledge of the graph's nodes (Gemm, MatMul and Add, a convolution of
    1 x 1). On random maps the head must be linear, independent of positions, and agree with the
    measured weights.

    Args:
        head: A head that takes maps alone.
        shape: (D, H, W).
    """
    rng = np.random.default_rng(0)
    tried = rng.normal(0, 8, (2, shape[0], 1, 1)) + rng.normal(0, 8, (2, *shape))
    bias = head(np.zeros((1, *shape)))[0].astype(np.float64)
    outputs = head(tried) - bias
    moved = rng.permuted(tried.reshape(2, shape[0], -1), axis=2).reshape(tried.shape)
    if not (
        is_close(head(moved) - bias, outputs) and is_close(head(-3 * tried) - bias, -3 * outputs)
    ):
        return None
    level = 64.0  # above the bias, which would round the weights
    even = np.full(shape[1:], level)
    channels = np.eye(shape[0])
    columns = [head(np.multiply.outer(channel, even)[None])[0] - bias for channel in channels]
    weights = np.stack(columns, axis=1) / level
    if not is_close(tried.mean(axis=(2, 3)) @ weights.T, outputs):
        return None
    return weights.astype(np.float32), bias.astype(np.float32)


def is_spatial(head: Head, maps: FloatArray) -> bool:
    """Return True if most positions of maps (D, H, W) matter to the logits.

    They do not at the last block's output of a transformer that is read at its class token.
    """
    channels, height, width = maps.shape
    chosen = np.unique(np.linspace(0, height * width - 1, _CELLS).astype(int))
    changed = np.repeat(maps[None], len(chosen), axis=0).reshape(len(chosen), channels, -1)
    noise = np.random.default_rng(0).normal(0, 1 + maps.std(), (len(chosen), channels))
    changed[np.arange(len(chosen)), :, chosen] += noise
    effect = np.abs(head(changed.reshape(-1, *maps.shape)) - head(maps[None])).max(axis=1)
    return float((effect > 1e-6 * effect.max()).mean()) > _MIN_SHARE
