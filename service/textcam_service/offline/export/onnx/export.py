"""Export of users' ONNX classifiers: choose, split, translate and verify; export.plan writes.

The backbone is split at a named tensor. Its head has no gradients, unless it has a closed form.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    FORWARD,
    GAP_LINEAR,
    INPUT,
    LOGITS,
    NO_HEAD,
)
from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.numerics import relative_difference
from textcam_service.offline.export.onnx.dynamic_batch import (
    OnnxClassifier,
    make_dynamic,
    run_each,
)
from textcam_service.offline.export.onnx.nodes import TOLERANCE, is_close, run_model
from textcam_service.offline.export.onnx.reading import OWN, read_onnx
from textcam_service.offline.export.onnx.split import (
    PREFIX,
    backbone_model,
    closed_form,
    head_model,
    is_spatial,
    load_head,
    with_maps,
)
from textcam_service.offline.export.plan import ExportedHead, ExportPlan, write_export
from textcam_service.offline.export.report import ExportReport
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.networks.network import unique_names

_CANDIDATES = 40


@dataclass(frozen=True)
class _Split:
    """A classifier split at a tensor.

    Attributes:
        target: The tensor.
        layout: How it holds its maps.
        backbone: INPUT -> LOGITS, ACTIVATION_MAPS, and PREFIX if there is one.
        outputs: The backbone's outputs for the sample images, by name.
        head: ACTIVATION_MAPS, PREFIX -> LOGITS; None: it does not run on its own.
        without: Why it does not.
    """

    target: str
    layout: Layout
    backbone: onnx.ModelProto
    outputs: dict[str, Float32Array]
    head: onnx.ModelProto | None
    without: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.layout.channels, self.layout.height, self.layout.width

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the head's inputs beside the maps."""
        return (PREFIX,) if self.layout.prefix else ()


def export_onnx(
    path: Path,
    output: Path,
    *,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...] = (),
    target_layer: str = "",
) -> ExportReport:
    """Make a backbone of an ONNX classifier.

    If the logits are linear in the mean of the maps, the head has a closed form, and all methods
    with gradients work. Otherwise the rest of the graph is the head, without gradients.

    Args:
        path: The model: one input, images (N, 3, h, w) float32; one output, logits (N, C) or
            their softmax, which is cut off. N may be fixed: it is made free, or, if it is 1
            and cannot be, the backbone runs one image of a batch after the other.
        output: The backbone's folder; an existing backbone there is replaced.
        preprocessing: From pixels to its input.
        class_names: C names; empty: those in the file's metadata ("class_names", "names",
            "classes" or "labels": a list, or a mapping by index), else "class 0" ...
        target_layer: Name of a tensor, or of the node that gives it; empty: the last one that
            holds maps, that all of the network passes through, and most of whose positions
            matter to the logits.

    Raises:
        ExportRefused: The file is no such model, or cannot be split there, or the result differs
            from it by more than 1e-4.
        FolderTaken: The folder holds anything but a backbone.
    """
    plan = plan_onnx(
        path, preprocessing=preprocessing, class_names=class_names, target_layer=target_layer
    )
    return write_export(plan, output)


def plan_onnx(
    path: Path,
    *,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...] = (),
    target_layer: str = "",
) -> ExportPlan:
    """Split, translate and verify a classifier; arguments and errors as for export_onnx."""
    height, width = preprocessing.height, preprocessing.width
    pixels = np.random.default_rng(0).normal(0, 1, (3, 3, height, width)).astype(np.float32)
    classifier = make_dynamic(read_onnx(path, (height, width)), pixels)
    names = _class_names(classifier, class_names)
    _check_class_count(classifier)
    if target_layer:
        parts = _split_at(classifier, target_layer, pixels)
    else:
        parts = _choose(classifier, pixels)
    _refuse_probabilities(path, parts.outputs[LOGITS])
    logits_error, maps_error = _verify(classifier, parts, pixels)
    target = parts.target.removeprefix(OWN)
    model = classifier.file.model
    identity = canonical_json([target, names, preprocessing.identity()])
    return ExportPlan(
        architecture=os.fsencode(path.stem).decode(errors="replace"),
        target_layer=target,
        weights_digest=sha256(identity + model.SerializeToString()),
        preprocessing=preprocessing,
        class_names=names,
        layout=parts.layout,
        backbone=parts.backbone.SerializeToString(),
        outputs=parts.contexts,
        head=_export_head(parts),
        logits_error=logits_error,
        maps_error=maps_error,
        exporter={
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
        },
    )


def _class_names(classifier: OnnxClassifier, stated: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names given, those of the metadata, or numbers; refuse another number of them."""
    names, count = stated or classifier.file.class_names, classifier.class_count
    if names and len(names) != count:
        source = "" if stated else " in its metadata; give others with --classes"
        raise ExportRefused(
            f"{classifier.file.path}: {count} logits, {len(names)} class names{source}"
        )
    return unique_names(names) or tuple(f"class {index}" for index in range(count))


def _check_class_count(classifier: OnnxClassifier) -> None:
    if classifier.class_count < 2:
        raise ExportRefused(
            f"{classifier.file.path} answers {classifier.class_count} logit, but the service takes "
            "a softmax over the classes; give two logits, [0, z] in place of z"
        )


def _layout(classifier: OnnxClassifier, name: str) -> Layout | None:
    shape = classifier.shapes.get(name)
    if shape is None:
        return None
    return Layout.of((-1, *shape), classifier.shapes[classifier.file.image][1:])


def _split_at(classifier: OnnxClassifier, wanted: str, pixels: Float32Array) -> _Split:
    """Split at a tensor, or at a node's first output."""
    nodes = {node.name: node.output[0] for node in classifier.model.graph.node if node.name}
    name = OWN + wanted if OWN + wanted in classifier.shapes else nodes.get(OWN + wanted, "")
    layout = _layout(classifier, name)
    if layout is not None:
        try:
            head = head_model(classifier, name, layout)
            return _split(classifier, name, layout, pixels, head)
        except ExportRefused as refused:
            return _split(classifier, name, layout, pixels, None, str(refused))
    held = [own.removeprefix(OWN) for own in classifier.shapes if _layout(classifier, own)]
    near = get_close_matches(wanted, held, 5, 0.3) or held[-5:]
    shape = f" {classifier.shapes[name]}" if name in classifier.shapes else ""
    raise ExportRefused(
        f"{classifier.file.path}: no tensor {wanted!r}{shape} holds maps; some that do: {near}"
    )


def _choose(classifier: OnnxClassifier, pixels: Float32Array) -> _Split:
    """Split at the last tensor that all of the network passes and whose positions matter."""
    tried = 0
    for name, layout in _candidates(classifier):
        try:
            head = head_model(classifier, name, layout)
            parts = _split(classifier, name, layout, pixels, head)
        except ExportRefused:
            continue  # the image goes around it, or it is of another type
        if _is_spatial(parts):
            return parts
        tried += 1
        if tried >= _CANDIDATES:
            break
    raise ExportRefused(
        f"{classifier.file.path}: no tensor holds maps through which all of the network passes and "
        "whose positions matter to the logits; choose one with --target-layer"
    )


def _candidates(classifier: OnnxClassifier) -> Iterator[tuple[str, Layout]]:
    """Yield tensors that hold maps, the last first."""
    held = [
        (node.op_type, name, layout)
        for node in classifier.model.graph.node
        for name in node.output
        if (layout := _layout(classifier, name)) and node.op_type != "AveragePool"
    ]
    grids = {(own.height, own.width) for kind, _, own in held if kind == "Conv"}
    for _, name, layout in reversed(held):
        # Other tensors (N, T, D) may look like tokens, but have no grid of the image's.
        if layout.kind != "tokens" or (layout.height, layout.width) in grids:
            yield name, layout


def _split(
    classifier: OnnxClassifier,
    target: str,
    layout: Layout,
    pixels: Float32Array,
    head: onnx.ModelProto | None,
    without: str = "",
) -> _Split:
    """Build and run the backbone, and leave out a head that does not compute its logits."""
    backbone = backbone_model(classifier, target, layout)
    outputs = run_model(backbone, classifier.file.path, {INPUT: pixels})
    parts = _Split(target, layout, backbone, outputs, head, without)
    if head is not None:
        given = {name: outputs[name] for name in (ACTIVATION_MAPS, *parts.contexts)}
        if not is_close(run_model(head, "the head", given)[LOGITS], outputs[LOGITS]):
            reason = "the head does not compute the logits by itself"
            return replace(parts, head=None, without=reason)
    return parts


def _is_spatial(parts: _Split) -> bool:
    if parts.head is None:
        return False
    contexts = {name: parts.outputs[name][:1] for name in parts.contexts}
    return is_spatial(load_head(parts.head, contexts), parts.outputs[ACTIVATION_MAPS][0])


def _refuse_probabilities(path: Path, logits: Float32Array) -> None:
    """Refuse probabilities that no node named Softmax gave."""
    if bool((logits >= 0).all()) and bool(np.abs(logits.sum(axis=1) - 1).max() < TOLERANCE):
        raise ExportRefused(
            f"{path} answers probabilities, but the service takes logits and their softmax "
            "itself; export it without its last softmax"
        )


def _export_head(parts: _Split) -> ExportedHead:
    """Export the head, in closed form if it has one."""
    if parts.head is None:
        return ExportedHead(NO_HEAD, without=parts.without)
    linear = None if parts.contexts else closed_form(load_head(parts.head, {}), parts.shape)
    if linear is not None:
        weights, bias = linear
        rebuilt = parts.outputs[ACTIVATION_MAPS].mean(axis=(2, 3)) @ weights.T + bias
        if is_close(rebuilt, parts.outputs[LOGITS]):
            return ExportedHead(GAP_LINEAR, linear=linear)
    graph = parts.head.SerializeToString()
    return ExportedHead(FORWARD, graph, parts.contexts, without="an ONNX model has none")


def _verify(classifier: OnnxClassifier, parts: _Split, pixels: Float32Array) -> tuple[float, float]:
    """Return the largest relative difference (logits, maps) to the file, run image by image.

    Raises:
        ExportRefused: It is too large.
    """
    file = classifier.file
    given = with_maps(file.model, file.logits, parts.target, parts.layout)
    wanted = run_each(file, given, pixels)
    alone = run_model(parts.backbone, file.path, {INPUT: pixels[:1]})
    logits_error, maps_error = (
        max(
            relative_difference(alone[name], own[:1]),
            relative_difference(parts.outputs[name], own),
        )
        for name, own in zip((LOGITS, ACTIVATION_MAPS), wanted, strict=False)
    )
    if not max(logits_error, maps_error) <= TOLERANCE:
        raise ExportRefused(
            f"{file.path}: cut for batches of any size, it answers otherwise than for each image "
            f"by itself, by {logits_error:.2g} (logits) and {maps_error:.2g} (activation maps); "
            "export it in evaluation mode, so that no image depends on the others of its batch"
        )
    return logits_error, maps_error
