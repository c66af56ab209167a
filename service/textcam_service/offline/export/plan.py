"""Export plans, which all exporters produce, and their writing.

An exporter goes through five steps: choose the target layer, split the network there, translate
its parts to ONNX, verify them against the original, write the folder. The first four differ
between torch (export.from_torch.export) and ONNX files (export.from_onnx.export). They give an
ExportPlan. The last step is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    ATTENTION,
    HEAD_GRADIENT,
    LAYER,
    TAP,
    BackboneGraphs,
    BackboneManifest,
    write_backbone,
)
from textcam_service.core.types import Float32Array, IntArray, Preprocessing
from textcam_service.core.vertices import drawn_grid
from textcam_service.offline.export.alignment import backbone_offset, backbone_order
from textcam_service.offline.export.reordering import reordered
from textcam_service.offline.export.report import ExportReport
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.networks.network import IMAGENET, has_names

_UNNAMED = (
    "the classes are numbered, for nothing names them; give their names by --classes FILE, one on "
    f"each line, or --classes {IMAGENET} if they are ImageNet's"
)


@dataclass(frozen=True)
class ExportedHead:
    """A translated head.

    Attributes:
        kind: See BackboneManifest.head_kind.
        graph: The serialised graph; None: the head has a closed form, or does not run on its own.
        contexts: Names of the graph's inputs besides the maps and the class weights.
        further: Names of the graph's outputs besides the logits and the maps' gradient.
        linear: Weights (C, D) and bias (C,) of a closed form.
        logits_error: ExportReport.logits_error of this head alone.
        gradient_error: ExportReport.gradient_error of this head alone.
        without: Reason why there are no gradients; empty if there are some.
    """

    kind: str
    graph: bytes | None = None
    contexts: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    linear: tuple[Float32Array, Float32Array] | None = None
    logits_error: float = 0.0
    gradient_error: float = 0.0
    without: str = ""


@dataclass(frozen=True)
class ExportPlan:
    """A classifier that is split, translated and verified, ready to be written.

    Attributes:
        architecture: Name of the network.
        target_layer: Name of the layer with the activation maps.
        weights_digest: Identity of network, weights, preprocessing and classes.
        preprocessing: Conversion of pixels to the input.
        class_names: C names.
        layout: Layout of the maps in the target layer's tensor.
        backbone: The serialised graph INPUT -> LOGITS, ACTIVATION_MAPS, `outputs`.
        outputs: Names of the backbone's outputs after the logits and the maps.
        head: Head from the target layer to the logits.
        logits_error: ExportReport.logits_error of the backbone.
        maps_error: ExportReport.maps_error of the backbone.
        exporter: Versions of the tools.
        layers: Names of the further layers, the first to compute first.
        layers_head: Head from the first of the further layers to the logits; None: there are none.
        vertices: See BackboneManifest.vertices.
        notes: See Network.notes.
        multi_label: See BackboneManifest.multi_label.
    """

    architecture: str
    target_layer: str
    weights_digest: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    layout: Layout
    backbone: bytes
    outputs: tuple[str, ...]
    head: ExportedHead
    logits_error: float
    maps_error: float
    exporter: Mapping[str, str]
    layers: tuple[str, ...] = ()
    layers_head: ExportedHead | None = None
    vertices: int = 0
    notes: tuple[str, ...] = ()
    multi_label: bool = False


def write_export(plan: ExportPlan, output: Path) -> ExportReport:
    """Write a plan as a backbone folder.

    Args:
        plan: The classifier.
        output: The folder; an existing backbone there is replaced.

    Raises:
        ExportRefused: The maps' cells stand in no order that can be found.
        FolderTaken: The folder holds anything but a backbone.
    """
    plan = _in_order(plan)
    layers_graph = plan.layers_head.graph if plan.layers_head is not None else None
    graphs = BackboneGraphs(plan.backbone, plan.head.graph, layers_graph)
    write_backbone(output, graphs, plan.head.linear, _manifest(plan))
    return _report(plan)


def _in_order(plan: ExportPlan) -> ExportPlan:
    """Put the cells of all layers where they see the image."""
    if plan.vertices:
        return plan
    layers = [f"{LAYER}{index}" for index in range(len(plan.layers))]
    names = dict(zip((ACTIVATION_MAPS, *layers), (plan.target_layer, *plan.layers), strict=True))
    orders = {}
    for maps, name in names.items():
        order = backbone_order(plan.backbone, maps, name, plan.preprocessing)
        if order is not None:
            orders[maps] = order
    if not orders:
        return plan
    slopes = {HEAD_GRADIENT: ACTIVATION_MAPS, ATTENTION: ACTIVATION_MAPS}
    of_layers = {f"{TAP}{index}": name for index, name in enumerate(layers[1:])}
    return replace(
        plan,
        backbone=reordered(plan.backbone, {}, orders),
        head=_head_in_order(plan.head, ACTIVATION_MAPS, slopes, orders),
        layers_head=plan.layers_head
        and _head_in_order(
            plan.layers_head, layers[0], {HEAD_GRADIENT: layers[0], **of_layers}, orders
        ),
        notes=(*plan.notes, *(f"the cells of {names[own]!r} were put in order" for own in orders)),
    )


def _head_in_order(
    head: ExportedHead, given: str, slopes: Mapping[str, str], orders: Mapping[str, IntArray]
) -> ExportedHead:
    """Put the cells of a head's maps and gradients in order.

    Args:
        head: The head.
        given: Name of the maps that it takes, among the backbone's outputs.
        slopes: Names of the maps that its outputs belong to, by the outputs' names.
        orders: By name of the maps; see reordered.
    """
    if head.graph is None:
        return head
    inputs = {ACTIVATION_MAPS: orders[given]} if given in orders else {}
    outputs = {name: orders[maps] for name, maps in slopes.items() if maps in orders}
    return replace(head, graph=reordered(head.graph, inputs, outputs))


def _manifest(plan: ExportPlan) -> BackboneManifest:
    height, width = plan.layout.height, plan.layout.width
    if plan.vertices:
        height, width = drawn_grid(
            plan.vertices, plan.preprocessing.height, plan.preprocessing.width
        )
    worst = max(plan.logits_error, plan.maps_error)
    return BackboneManifest(
        architecture=plan.architecture,
        target_layer=plan.target_layer,
        head_kind=plan.head.kind,
        weights_digest=plan.weights_digest,
        preprocessing=plan.preprocessing,
        class_names=plan.class_names,
        channel_count=plan.layout.channels,
        map_height=height,
        map_width=width,
        exporter={**plan.exporter, "max_parity_error": f"{worst:.3g}"},
        grid_shift=backbone_offset(plan.backbone, plan.layout, plan.preprocessing, plan.vertices),
        layers=plan.layers,
        outputs=plan.outputs,
        head_inputs=plan.head.contexts if plan.head.graph else (),
        layers_inputs=plan.layers_head.contexts if plan.layers_head is not None else (),
        attention=ATTENTION in plan.head.further,
        vertices=plan.vertices,
        multi_label=plan.multi_label,
    )


def _report(plan: ExportPlan) -> ExportReport:
    heads = [plan.head, *([plan.layers_head] if plan.layers_head is not None else [])]
    return ExportReport(
        architecture=plan.architecture,
        target_layer=plan.target_layer,
        head_kind=plan.head.kind,
        weights_digest=plan.weights_digest,
        logits_error=max(plan.logits_error, *(head.logits_error for head in heads)),
        maps_error=plan.maps_error,
        gradient_error=max(head.gradient_error for head in heads),
        maps_shape=(plan.layout.channels, plan.layout.height, plan.layout.width),
        class_count=len(plan.class_names),
        multi_label=plan.multi_label,
        without=plan.head.without,
        preprocessing=plan.preprocessing,
        notes=plan.notes if has_names(plan.class_names) else (*plan.notes, _UNNAMED),
    )
