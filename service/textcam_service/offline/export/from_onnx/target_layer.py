"""Choice of the tensor to explain in a user's ONNX classifier, and the split at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

import onnx

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT, LOGITS
from textcam_service.core.types import Float32Array
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.dynamic_batch import OnnxClassifier
from textcam_service.offline.export.from_onnx.nodes import is_close, run_model
from textcam_service.offline.export.from_onnx.reading import OWN
from textcam_service.offline.export.from_onnx.split import (
    PREFIX,
    backbone_model,
    head_model,
    is_spatial,
    load_head,
)
from textcam_service.offline.export.tensor_layout import Layout

_CANDIDATES = 40
_NAMED = 5  # tensors in an error


@dataclass(frozen=True)
class OnnxSplit:
    """A classifier split at a tensor.

    Attributes:
        target: The tensor.
        layout: Layout of the maps in it.
        backbone: INPUT -> LOGITS, ACTIVATION_MAPS, and PREFIX if there is one.
        outputs: The backbone's outputs for the sample images, by name.
        head: ACTIVATION_MAPS, PREFIX -> LOGITS; None: it does not run on its own.
        without: Reason why the head does not run.
    """

    target: str
    layout: Layout
    backbone: onnx.ModelProto
    outputs: dict[str, Float32Array]
    head: onnx.ModelProto | None
    without: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (D, H, W) of the maps."""
        return self.layout.channels, self.layout.height, self.layout.width

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the head's inputs besides the maps."""
        return (PREFIX,) if self.layout.prefix else ()


def choose_split(classifier: OnnxClassifier, pixels: Float32Array) -> OnnxSplit:
    """Split at the last tensor that all of the network passes and that has positions that matter.

    Args:
        classifier: The classifier.
        pixels: Sample images (N, 3, h, w).

    Raises:
        ExportRefused: There is no such tensor.
    """
    tried: list[str] = []
    passed: list[str] = []
    for name, layout in _candidates(classifier):
        try:
            head = head_model(classifier, name, layout)
            parts = _split(classifier, name, layout, pixels, head)
        except ExportRefused:
            passed.append(f"{name.removeprefix(OWN)!r} (more of the image goes around it)")
            continue  # or it is of another type
        if _is_spatial(parts):
            return parts
        tried.append(f"{name.removeprefix(OWN)!r} (few of its positions matter)")
        if len(tried) >= _CANDIDATES:
            break
    near = (
        "; ".join([*tried, *passed][:_NAMED]) or "none of its tensors has the image's proportions"
    )
    raise ExportRefused(
        f"{classifier.file.path}: no tensor holds maps through which all of the network passes and "
        f"whose positions matter to the logits; choose one with --target-layer; near: {near}"
    )


def split_at(classifier: OnnxClassifier, wanted: str, pixels: Float32Array) -> OnnxSplit:
    """Split at a tensor, or at a node's first output.

    Args:
        classifier: The classifier.
        wanted: Name of the tensor, or of the node.
        pixels: Sample images (N, 3, h, w).

    Raises:
        ExportRefused: There is no such tensor, or it holds no maps.
    """
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


def _split(
    classifier: OnnxClassifier,
    target: str,
    layout: Layout,
    pixels: Float32Array,
    head: onnx.ModelProto | None,
    without: str = "",
) -> OnnxSplit:
    """Build and run the backbone, and leave out a head that does not compute its logits."""
    backbone = backbone_model(classifier, target, layout)
    outputs = run_model(backbone, classifier.file.path, {INPUT: pixels})
    parts = OnnxSplit(target, layout, backbone, outputs, head, without)
    if head is not None:
        given = {name: outputs[name] for name in (ACTIVATION_MAPS, *parts.contexts)}
        if not is_close(run_model(head, "the head", given)[LOGITS], outputs[LOGITS]):
            reason = "the head does not compute the logits by itself"
            return replace(parts, head=None, without=reason)
    return parts


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


def _is_spatial(parts: OnnxSplit) -> bool:
    if parts.head is None:
        return False
    contexts = {name: parts.outputs[name][:1] for name in parts.contexts}
    return is_spatial(load_head(parts.head, contexts), parts.outputs[ACTIVATION_MAPS][0])


def _layout(classifier: OnnxClassifier, name: str) -> Layout | None:
    shape = classifier.shapes.get(name)
    if shape is None:
        return None
    last = name in classifier.channels_last
    return Layout.of((-1, *shape), classifier.shapes[classifier.file.image][1:], last=last)
