"""A user's ONNX classifier as a backbone: cut at a named tensor, without gradients."""

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
    BackboneGraphs,
    BackboneManifest,
    write_backbone,
)
from textcam_service.artefacts.files import canonical_json, sha256
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.onnx.dynamic_batch import OnnxClassifier, make_dynamic, run_each
from textcam_service.offline.export.onnx.nodes import TOLERANCE, answers, is_close
from textcam_service.offline.export.onnx.reading import OWN, read_onnx
from textcam_service.offline.export.onnx.split import (
    PREFIX,
    backbone_model,
    closed_form,
    head_model,
    is_spatial,
    load_head,
    with_output,
)
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.export.torch.export import ExportReport
from textcam_service.offline.export.torch.to_onnx import difference
from textcam_service.offline.networks.cell_offsets import backbone_offset
from textcam_service.offline.networks.loading import unique_names

_CANDIDATES = 40


@dataclass(frozen=True)
class _Cut:
    """A classifier cut at a tensor.

    Attributes:
        target: The tensor.
        layout: How it holds its maps.
        backbone: INPUT -> LOGITS, ACTIVATION_MAPS, and PREFIX where there is one.
        answers: Of the backbone, to the pixels that it is tried with, by name.
        head: ACTIVATION_MAPS, PREFIX -> LOGITS; None: it does not run by itself.
        without: Why it does not.
    """

    target: str
    layout: Layout
    backbone: onnx.ModelProto
    answers: dict[str, Float32Array]
    head: onnx.ModelProto | None
    without: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.layout.channels, self.layout.height, self.layout.width

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of what the head takes beside the maps."""
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

    Where the logits are linear in the mean of the maps, the head has a closed form, and all
    methods with gradients work. Else the rest of the graph is the head, without gradients.

    Args:
        path: The model: one input, images (N, 3, h, w) float32; one output, logits (N, C) or
            their softmax, which is cut off. N may be fixed: it is made free, or, where it is 1
            and cannot be, the backbone runs one image of a batch after the other.
        output: The backbone's folder; replaced if it is there.
        preprocessing: From pixels to its input.
        class_names: C names; empty: those in the file's metadata ("class_names", "names",
            "classes" or "labels": a list, or a mapping by index), else "class 0" ...
        target_layer: Name of a tensor, or of the node that gives it; empty: the last one that
            holds maps, that all of the network passes through, and most of whose positions
            matter to the logits.

    Raises:
        ExportRefused: The file is no such model, or cannot be cut there, or what comes out
            differs from it by more than 1e-4.
    """
    height, width = preprocessing.height, preprocessing.width
    pixels = np.random.default_rng(0).normal(0, 1, (3, 3, height, width)).astype(np.float32)
    seen = make_dynamic(read_onnx(path, (height, width)), pixels)
    names = _class_names(seen, class_names)
    if seen.class_count < 2:
        raise ExportRefused(
            f"{path} answers {seen.class_count} logit, but the service takes a softmax over the "
            "classes; give two logits, [0, z] in place of z"
        )
    cut = _cut_at(seen, target_layer, pixels) if target_layer else _choose(seen, pixels)
    _refuse_probabilities(path, cut.answers[LOGITS])
    errors = _parity(seen, cut, pixels)
    name = os.fsencode(path.stem).decode(errors="replace")
    kind, linear, without = _head_kind(cut)
    target = cut.target.removeprefix(OWN)
    given = seen.file.model
    digest = sha256(
        canonical_json([target, names, preprocessing.identity()]) + given.SerializeToString()
    )
    backbone = cut.backbone.SerializeToString()
    graphs = BackboneGraphs(
        backbone,
        cut.head.SerializeToString() if cut.head and kind == FORWARD else None,
    )
    manifest = BackboneManifest(
        architecture=name,
        target_layer=target,
        head_kind=kind,
        weights_digest=digest,
        preprocessing=preprocessing,
        class_names=names,
        channel_count=cut.layout.channels,
        map_height=cut.layout.height,
        map_width=cut.layout.width,
        exporter={
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "producer": f"{given.producer_name} {given.producer_version}".strip(),
            "max_parity_error": f"{max(errors):.3g}",
        },
        grid_shift=backbone_offset(backbone, cut.layout, preprocessing),
        outputs=cut.contexts,
        head_inputs=cut.contexts if kind == FORWARD else (),
    )
    write_backbone(output, graphs, linear, manifest)
    return ExportReport(
        name, target, kind, digest, *errors, 0.0, cut.shape, len(names), without, preprocessing
    )


def _class_names(seen: OnnxClassifier, stated: tuple[str, ...]) -> tuple[str, ...]:
    names, count = stated or seen.file.class_names, seen.class_count
    if names and len(names) != count:
        place = "" if stated else " in its metadata; give others with --classes"
        raise ExportRefused(f"{seen.file.path}: {count} logits, {len(names)} class names{place}")
    return unique_names(names) or tuple(f"class {index}" for index in range(count))


def _layout(seen: OnnxClassifier, name: str) -> Layout | None:
    shape = seen.shapes.get(name)
    return None if shape is None else Layout.of((-1, *shape), seen.shapes[seen.file.image][1:])


def _cut_at(seen: OnnxClassifier, wanted: str, pixels: Float32Array) -> _Cut:
    """Cut at a tensor, or at a node's first output."""
    nodes = {node.name: node.output[0] for node in seen.model.graph.node if node.name}
    name = OWN + wanted if OWN + wanted in seen.shapes else nodes.get(OWN + wanted, "")
    layout = _layout(seen, name)
    if layout is not None:
        try:
            return _parts(seen, name, layout, pixels, head_model(seen, name, layout))
        except ExportRefused as refused:
            return _parts(seen, name, layout, pixels, None, str(refused))
    held = [own.removeprefix(OWN) for own in seen.shapes if _layout(seen, own)]
    near = get_close_matches(wanted, held, 5, 0.3) or held[-5:]
    shape = f" {seen.shapes[name]}" if name in seen.shapes else ""
    raise ExportRefused(
        f"{seen.file.path}: no tensor {wanted!r}{shape} holds maps; some that do: {near}"
    )


def _choose(seen: OnnxClassifier, pixels: Float32Array) -> _Cut:
    """Cut at the last tensor that all of the network passes and whose positions matter."""
    tried = 0
    for name, layout in _candidates(seen):
        try:
            cut = _parts(seen, name, layout, pixels, head_model(seen, name, layout))
        except ExportRefused:
            continue  # the image goes around it, or it is of another type
        if _is_spatial(cut):
            return cut
        tried += 1
        if tried >= _CANDIDATES:
            break
    raise ExportRefused(
        f"{seen.file.path}: no tensor holds maps through which all of the network passes and "
        "whose positions matter to the logits; choose one with --target-layer"
    )


def _candidates(seen: OnnxClassifier) -> Iterator[tuple[str, Layout]]:
    """Tensors that hold maps, the last first."""
    held = [
        (node.op_type, name, layout)
        for node in seen.model.graph.node
        for name in node.output
        if (layout := _layout(seen, name)) and node.op_type != "AveragePool"
    ]
    grids = {(own.height, own.width) for kind, _, own in held if kind == "Conv"}
    for _, name, layout in reversed(held):
        # Other tensors (N, T, D) may look like tokens, but have no grid of the image's.
        if layout.kind != "tokens" or (layout.height, layout.width) in grids:
            yield name, layout


def _parts(
    seen: OnnxClassifier,
    target: str,
    layout: Layout,
    pixels: Float32Array,
    head: onnx.ModelProto | None,
    without: str = "",
) -> _Cut:
    """Build and run the backbone, and see whether the head computes its logits."""
    backbone = backbone_model(seen, target, layout)
    found = answers(backbone, seen.file.path, {INPUT: pixels})
    cut = _Cut(target, layout, backbone, found, head, without)
    if head is not None:
        given = {name: found[name] for name in (ACTIVATION_MAPS, *cut.contexts)}
        if not is_close(answers(head, "the head", given)[LOGITS], found[LOGITS]):
            return replace(cut, head=None, without="the head does not compute the logits by itself")
    return cut


def _is_spatial(cut: _Cut) -> bool:
    if cut.head is None:
        return False
    contexts = {name: cut.answers[name][:1] for name in cut.contexts}
    return is_spatial(load_head(cut.head, contexts), cut.answers[ACTIVATION_MAPS][0])


def _refuse_probabilities(path: Path, logits: Float32Array) -> None:
    """Refuse what a softmax answers that is none by name."""
    if bool((logits >= 0).all()) and bool(np.abs(logits.sum(axis=1) - 1).max() < TOLERANCE):
        raise ExportRefused(
            f"{path} answers probabilities, but the service takes logits and their softmax "
            "itself; export it without its last softmax"
        )


def _head_kind(cut: _Cut) -> tuple[str, tuple[Float32Array, Float32Array] | None, str]:
    """The kind of head, its closed form, and why there are no gradients."""
    if cut.head is None:
        return NO_HEAD, None, cut.without
    linear = None if cut.contexts else closed_form(load_head(cut.head, {}), cut.shape)
    if linear is not None:
        weights, bias = linear
        rebuilt = cut.answers[ACTIVATION_MAPS].mean(axis=(2, 3)) @ weights.T + bias
        if is_close(rebuilt, cut.answers[LOGITS]):
            return GAP_LINEAR, linear, ""
    return FORWARD, None, "an ONNX model has none"


def _parity(seen: OnnxClassifier, cut: _Cut, pixels: Float32Array) -> tuple[float, float]:
    """Largest relative difference, of logits and maps, to the file's answers image by image.

    Raises:
        ExportRefused: It is too large.
    """
    file = seen.file
    given = with_output(file.model, file.logits, cut.target, cut.layout)
    wanted = run_each(file, given, pixels)
    alone = answers(cut.backbone, file.path, {INPUT: pixels[:1]})
    logits_error, maps_error = (
        max(difference(alone[name], own[:1]), difference(cut.answers[name], own))
        for name, own in zip((LOGITS, ACTIVATION_MAPS), wanted, strict=False)
    )
    if not max(logits_error, maps_error) <= TOLERANCE:
        raise ExportRefused(
            f"{file.path}: cut for batches of any size, it answers otherwise than for each image "
            f"by itself, by {logits_error:.2g} (logits) and {maps_error:.2g} (activation maps); "
            "export it in evaluation mode, so that no image depends on the others of its batch"
        )
    return logits_error, maps_error
