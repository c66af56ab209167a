"""A user's ONNX classifier as a backbone: cut at a named tensor, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from textcam_service.artefact import canonical_json, sha256
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.graphs import (
    ACTIVATION_MAPS,
    FORWARD,
    GAP_LINEAR,
    INPUT,
    LOGITS,
    NO_HEAD,
    BackboneManifest,
    Graphs,
    write_backbone,
)
from textcam_service.offline.cut import Layout
from textcam_service.offline.export import ExportReport

_TOLERANCE = 1e-4
_CANDIDATES = 12


@dataclass(frozen=True)
class _Classifier:
    """An ONNX model with a free batch, and what its tensors hold for two images.

    Attributes:
        model: As it was given, but for the batch.
        image: Name of its input.
        logits: Name of its output.
        values: By name: the tensors that hold maps (2, D, H, W), those of linear layers' inputs
            and outputs, and the logits.
        pixels: The two images.
    """

    model: onnx.ModelProto
    image: str
    logits: str
    values: dict[str, Float32Array]
    pixels: Float32Array


def export_onnx(
    path: Path,
    output: Path,
    *,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...] = (),
    target_layer: str = "",
) -> ExportReport:
    """Make a backbone of an ONNX classifier.

    Where the logits are a Gemm over the mean of the maps, the head has a closed form, and all
    methods with gradients work. Else the rest of the graph is the head, without gradients. The
    maps' cells are taken to lie on an even grid: of a foreign graph the shift is not measured.

    Args:
        path: The model: one input, images (N, 3, h, w) float32; one output, logits (N, C).
        output: The backbone's folder; replaced if it is there.
        preprocessing: From pixels to its input.
        class_names: C names; empty: "class 0" ...
        target_layer: Name of a tensor, or of the node that gives it; empty: the one whose mean
            the last linear layer takes, else the last that holds maps and that all of the
            network passes through.

    Raises:
        ExportRefused: The file is no such model, or cannot be cut there.
    """
    seen = _read(path, preprocessing)
    logits = seen.values[seen.logits]
    names = class_names or tuple(f"class {index}" for index in range(logits.shape[1]))
    if len(names) != logits.shape[1]:
        raise ExportRefused(f"{path}: {logits.shape[1]} logits, {len(names)} class names")
    linear, target = _target(seen, target_layer, path)
    maps = seen.values[target]
    backbone = _cut(seen, seen.image, INPUT, {seen.logits: LOGITS, target: ACTIVATION_MAPS})
    _require_parity(backbone, seen, target, path)
    head, without = (None, "") if linear else _head(seen, target)
    kind = GAP_LINEAR if linear else FORWARD if head else NO_HEAD
    digest = sha256(
        canonical_json([target, names, asdict(preprocessing)]) + seen.model.SerializeToString()
    )
    _, channels, height, width = maps.shape
    manifest = BackboneManifest(
        architecture=path.stem,
        target_layer=target,
        head_kind=kind,
        weights_digest=digest,
        preprocessing=preprocessing,
        class_names=names,
        channel_count=channels,
        map_height=height,
        map_width=width,
        exporter={"onnx": onnx.__version__, "onnxruntime": ort.__version__},
    )
    write_backbone(output, Graphs(backbone, head), linear, manifest)
    shape = (channels, height, width)
    return ExportReport(
        path.stem, target, kind, digest, 0.0, 0.0, 0.0, shape, logits.shape[1], without
    )


def _read(path: Path, preprocessing: Preprocessing) -> _Classifier:
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # whatever the file may hold
        raise ExportRefused(f"{path} is no ONNX model: {error}") from error
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ExportRefused(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; a classifier "
            "has one of each: images (N, 3, h, w), logits (N, C)"
        )
    for value in (inputs[0], model.graph.output[0]):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]  # they may state the batch's size
    rng = np.random.default_rng(0)
    size = (2, 3, preprocessing.height, preprocessing.width)
    pixels = rng.normal(0, 1, size).astype(np.float32)
    image, logits = inputs[0].name, model.graph.output[0].name
    values = _run_all(model, image, pixels, path)
    found = values.get(logits)
    if found is None or found.ndim != 2:
        raise ExportRefused(f"{path}: its output {logits!r} is not (N, C) logits")
    if bool((found >= 0).all()) and bool(np.abs(found.sum(1) - 1).max() < _TOLERANCE):
        raise ExportRefused(
            f"{path} answers probabilities, but the service takes logits and their softmax "
            "itself; cut its last Softmax off"
        )
    return _Classifier(model, image, logits, values, pixels)


def _run_all(
    model: onnx.ModelProto, image: str, pixels: Float32Array, path: Path
) -> dict[str, Float32Array]:
    """Every float tensor of the graph, for some images."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    stated = {value.name for value in whole.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    floats = {v.name for v in inferred if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in model.graph.node:
        whole.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in node.output
            if name in floats and name not in stated
        )
    try:
        session = _session(whole.SerializeToString())
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, {image: pixels}), strict=True))
    except Exception as error:  # onnxruntime's own
        raise ExportRefused(
            f"{path} does not run on images {pixels.shape}: {error}; export it with a free batch "
            "size, and state its --input-size"
        ) from error


def _target(
    seen: _Classifier, wanted: str, path: Path
) -> tuple[tuple[Float32Array, Float32Array] | None, str]:
    """The linear head, if it is one, and the name of the maps' tensor."""
    maps = [name for name, value in seen.values.items() if _holds_maps(seen, value)]
    by_node = {node.name: node.output[0] for node in seen.model.graph.node if node.output}
    if wanted:
        wanted = by_node.get(wanted, wanted)
        if wanted not in maps:
            near = get_close_matches(wanted, maps, 5, 0.3) or maps[-5:]
            raise ExportRefused(f"{path}: no tensor {wanted!r} holds maps; some that do: {near}")
        maps = [wanted]
    if not maps:
        raise ExportRefused(f"{path}: no tensor (N, D, H, W) of more than one cell")
    linear = _last_linear(seen)
    if linear is not None:
        weights, bias = linear
        for name in reversed(maps):
            means = seen.values[name].mean(axis=(2, 3))
            if means.shape[1] == weights.shape[1]:
                rebuilt, logits = means @ weights.T + bias, seen.values[seen.logits]
                if np.abs(rebuilt - logits).max() <= _TOLERANCE * np.abs(logits).max():
                    return linear, name
    if wanted:
        return None, wanted
    for name in maps[: -_CANDIDATES - 1 : -1]:
        if _head(seen, name)[0] is not None:
            return None, name
    raise ExportRefused(
        f"{path}: none of its last tensors {maps[-_CANDIDATES:]} holds maps through which all of "
        "the network passes; choose one with --target-layer"
    )


def _holds_maps(seen: _Classifier, value: Any) -> bool:
    layout = Layout.of(value.shape, seen.pixels.shape[2:]) if value.ndim == 4 else None
    return layout is not None and layout.kind == "NCHW" and len(value) == len(seen.pixels)


def _last_linear(seen: _Classifier) -> tuple[Float32Array, Float32Array] | None:
    """Weights (C, D) and bias (C,) of the linear layer that ends the graph."""
    arrays = {tensor.name: tensor for tensor in seen.model.graph.initializer}
    made = {name: node for node in seen.model.graph.node for name in node.output}
    node = made.get(seen.logits)
    bias: Any = 0.0
    if node is not None and node.op_type == "Add":
        constant = next((name for name in node.input if name in arrays), None)
        other = next((name for name in node.input if name not in arrays), None)
        if constant is None or other is None:
            return None
        bias, node = numpy_helper.to_array(arrays[constant]), made.get(other)
    if node is None or node.op_type not in {"Gemm", "MatMul"} or node.input[1] not in arrays:
        return None
    weights = numpy_helper.to_array(arrays[node.input[1]])
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if not given.get("transB"):
        weights = weights.T
    if len(node.input) > 2 and node.input[2] in arrays:
        bias = numpy_helper.to_array(arrays[node.input[2]])
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
        return None
    count = len(weights)
    return weights.astype(np.float32), np.broadcast_to(bias, (count,)).astype(np.float32)


def _head(seen: _Classifier, target: str) -> tuple[bytes | None, str]:
    """The graph from the maps to the logits; None, and why, where it takes more of the image."""
    try:
        graph = _cut(seen, target, ACTIVATION_MAPS, {seen.logits: LOGITS})
        (logits,) = _session(graph).run([LOGITS], {ACTIVATION_MAPS: seen.values[target]})
    except Exception as error:  # noqa: BLE001 - onnx's and onnxruntime's own
        return None, f"the head does not run by itself: {str(error).splitlines()[0]}"
    wanted = seen.values[seen.logits]
    if np.abs(logits - wanted).max() > _TOLERANCE * np.abs(wanted).max():
        return None, "the head does not compute the logits by itself"
    return graph, "an ONNX model has none"


def _cut(seen: _Classifier, start: str, new: str, outputs: Mapping[str, str]) -> bytes:
    """Part of the graph, with the product's names for what goes in and comes out.

    Args:
        seen: The whole.
        start: The tensor that goes in.
        new: Its name in the product.
        outputs: The product's names by the tensors that come out.
    """
    needed = set(outputs)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(seen.model.graph.node):
        if any(name in needed for name in node.output) and start not in node.output:
            nodes.insert(0, node)
            needed.update(node.input)
    if seen.image in needed and seen.image != start:
        raise ValueError("it takes more of the image than the maps")
    model = onnx.ModelProto()
    model.CopyFrom(seen.model)
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.append(helper.make_node("Identity", [new], [_own(start)]))
    for node in nodes:
        copy = model.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [_own(name) for name in node.input]
        copy.output[:] = [_own(name) for name in node.output]
    for tensor in list(model.graph.initializer):
        if tensor.name not in needed:
            model.graph.initializer.remove(tensor)
        else:
            tensor.name = _own(tensor.name)
    for old, name in outputs.items():
        model.graph.node.append(helper.make_node("Identity", [_own(old)], [name]))
        model.graph.output.append(_value(name, seen.values[old].shape))
    shape = seen.pixels.shape if start == seen.image else seen.values[start].shape
    model.graph.input.append(_value(new, shape))
    return bytes(model.SerializeToString())


def _own(name: str) -> str:
    """A model's own name for a tensor, set apart from the product's; "" is an input left out."""
    return f"own:{name}" if name else ""


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]])


def _require_parity(graph: bytes, seen: _Classifier, target: str, path: Path) -> None:
    session = _session(graph)
    for count in (1, len(seen.pixels)):
        found = session.run([LOGITS, ACTIVATION_MAPS], {INPUT: seen.pixels[:count]})
        wanted = [seen.values[name][:count] for name in (seen.logits, target)]
        for own, other in zip(found, wanted, strict=True):
            off = float(np.abs(own - other).max() / max(1.0, np.abs(other).max()))
            if not off <= _TOLERANCE:
                raise ExportRefused(
                    f"{path}: the batch's size changes its answers by {off:.2g}; export it with a "
                    "free batch size"
                )


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
