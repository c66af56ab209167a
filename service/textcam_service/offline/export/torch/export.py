"""From a torch classifier to ONNX graphs, cut at the target layer, checked against torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from torch import nn

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    ATTENTION,
    CLASS_WEIGHTS,
    FORWARD,
    GAP_LINEAR,
    GRADIENT,
    HEAD_GRADIENT,
    INPUT,
    LAYER,
    LOGITS,
    NO_HEAD,
    BackboneGraphs,
    BackboneManifest,
    write_backbone,
)
from textcam_service.artefacts.files import canonical_json
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.core.vertices import drawn_grid
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.tensor_layout import HookPoint, Layout
from textcam_service.offline.export.torch.conditional_gradient import conditional_gradient
from textcam_service.offline.export.torch.head_vjp import gradient_graph
from textcam_service.offline.export.torch.split import Head, WithHooks, split
from textcam_service.offline.export.torch.target_layer import choose_target, close, linear_head
from textcam_service.offline.export.torch.to_onnx import OPSET, head_parity, parity, to_onnx
from textcam_service.offline.export.torch.vertices import vertex_source
from textcam_service.offline.networks.cell_offsets import backbone_offset
from textcam_service.offline.networks.loading import Network, state_digest
from textcam_service.offline.networks.smoke_test import check_logits, sample_images

_GRADIENT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how closely it agrees with torch.

    Attributes:
        architecture: Name of the network.
        target_layer: Where the activation maps are seen.
        head_kind: As BackboneManifest.head_kind.
        weights_digest: Identity of network, weights, preprocessing and classes.
        logits_error: Largest difference of a logit, of the whole or of the head by itself,
            relative to the largest logit.
        maps_error: The same of the activation maps.
        gradient_error: Norm of the difference of gradients (of the maps, of further layers, of
            attention), relative to their norm, the largest of them; 0 where none are exported,
            or they have a closed form.
        maps_shape: (D, H, W), or (D, V, 1) on the vertices of a graph.
        class_count: C.
        without: Why there are no gradients; empty: there are.
        preprocessing: From pixels to the input; None: told by whoever asked for it.
    """

    architecture: str
    target_layer: str
    head_kind: str
    weights_digest: str
    logits_error: float
    maps_error: float
    gradient_error: float
    maps_shape: tuple[int, int, int]
    class_count: int
    without: str = ""
    preprocessing: Preprocessing | None = None

    def __str__(self) -> str:
        channels, height, width = self.maps_shape
        fed = ""
        if (given := self.preprocessing) is not None:
            fed = (
                f"images of {given.width} x {given.height} after resizing to {given.resize} "
                f"({given.interpolation}, {given.crop_mode}), "
            )
        kinds = {
            GAP_LINEAR: "global average pooling and a linear head",
            GRADIENT: "a head with gradients",
            FORWARD: f"a head without gradients ({self.without}), for gradient-free methods",
            NO_HEAD: f"no head ({self.without}), for methods that need none",
        }
        return (
            f"{self.architecture}, {self.class_count} classes, {fed}{channels} channels of "
            f"{height} x {width} at {self.target_layer}, {kinds[self.head_kind]}, parity "
            f"{self.logits_error:.1e} (logits), {self.maps_error:.1e} (maps) and "
            f"{self.gradient_error:.1e} (gradients), {self.weights_digest}"
        )


@dataclass(frozen=True)
class _Exported:
    """A head's graph: its kind, errors, outputs beside logits and gradient, and why not more."""

    kind: str
    graph: bytes | None
    logits_error: float = 0.0
    gradient_error: float = 0.0
    further: tuple[str, ...] = ()
    without: str = ""


def export_network(
    network: Network,
    output: Path,
    *,
    target_layer: str = "",
    layers: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> ExportReport:
    """Export a classifier, cut at its target layer.

    Args:
        network: What to export.
        output: The backbone's folder; replaced if it is there.
        target_layer: A module's name, or "input of NAME"; empty: see choose_target.
        layers: Further layers, whose maps and gradients some methods take.
        tolerance: Largest difference between onnxruntime and torch, of logits and of
            activation maps, relative to the largest value. A head whose own logits differ by
            more, or whose gradients differ in norm by more than 1e-3 of theirs, is exported
            without gradients, or not at all.

    Raises:
        ExportRefused: The network answers no logits, a layer holds no maps, the exporter cannot
            translate the network, or the result differs from torch by more than `tolerance`; or
            further layers were named and have no gradients that agree.
    """
    images = sample_images(network.preprocessing)
    class_count = check_logits(network.name, network.module, images).shape[1]
    if class_count != len(network.class_names):
        raise ExportRefused(
            f"{network.name}: {class_count} logits, {len(network.class_names)} class names"
        )
    vertices = vertex_source(network, images)
    count = vertices.count if vertices is not None else 0
    if target_layer:
        place = _place(network, target_layer)
    else:
        place = choose_target(network, images, count).place
    further_places = [_place(network, name) for name in layers]
    parts = split(network.module, images, place, further_places, vertices)
    with torch.no_grad():  # what inference_mode() makes cannot be differentiated by later
        logits, maps, *further = parts.trunk(images)
    if any(len(tensor) != len(images) for tensor in (maps, *further)):
        raise ExportRefused(
            f"{place} or what goes around it does not hold one image after the other, as inside "
            "windows; choose the output of the block"
        )
    named = dict(zip(parts.outputs, further, strict=True))
    names = [LOGITS, ACTIVATION_MAPS, *parts.outputs]
    backbone = to_onnx(network.name, parts.trunk, [images], [INPUT], names)
    eager = _Maps(network.module, place, parts.head.layout)
    logits_error, maps_error = parity(backbone, eager, images)
    if not max(logits_error, maps_error) <= tolerance:
        raise ExportRefused(
            f"{network.name}: its ONNX form differs from torch by {logits_error:.2g} (logits) and "
            f"{maps_error:.2g} (activation maps), more than {tolerance:.2g}"
        )
    linear = _linear(network, images, maps, logits)
    head = _Exported(GAP_LINEAR, None)
    if not linear:
        head = _export_head(parts.head, maps, named, logits, tolerance)
    tapped = _Exported(NO_HEAD, None)
    if parts.layers_head is not None:
        first = named[f"{LAYER}0"]
        tapped = _export_head(parts.layers_head, first, named, logits, tolerance)
        if tapped.kind != GRADIENT:
            raise ExportRefused(
                f"{network.name}: the further layers need gradients, but "
                f"{tapped.without}; leave --layer out"
            )
    digest = weights_digest(network, str(place))
    channels, (height, width) = maps.shape[1], maps.shape[2:]
    if count:
        height, width = drawn_grid(count, *images.shape[2:])
    manifest = BackboneManifest(
        architecture=network.name,
        target_layer=str(place),
        head_kind=head.kind,
        weights_digest=digest,
        preprocessing=network.preprocessing,
        class_names=network.class_names,
        channel_count=channels,
        map_height=height,
        map_width=width,
        exporter={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "opset": str(OPSET),
            "max_parity_error": f"{max(logits_error, maps_error):.3g}",
        },
        grid_shift=backbone_offset(backbone, parts.head.layout, network.preprocessing, count),
        layers=tuple(map(str, parts.layers)),
        outputs=parts.outputs,
        head_inputs=parts.head.contexts if head.graph else (),
        layers_inputs=parts.layers_head.contexts if parts.layers_head else (),
        attention=ATTENTION in head.further,
        vertices=count,
    )
    write_backbone(output, BackboneGraphs(backbone, head.graph, tapped.graph), linear, manifest)
    return ExportReport(
        network.name,
        str(place),
        head.kind,
        digest,
        max(logits_error, head.logits_error, tapped.logits_error),
        maps_error,
        max(head.gradient_error, tapped.gradient_error),
        (channels, *maps.shape[2:]),
        class_count,
        head.without,
        network.preprocessing,
    )


class _Maps(nn.Module):
    """The network as it stands, with its maps: (N, 3, h, w) -> logits, (N, D, H, W)."""

    def __init__(self, network: nn.Module, place: HookPoint, layout: Layout) -> None:
        super().__init__()
        self._tapped = WithHooks(network, [place])
        self._layout = layout

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, tensor = self._tapped(images)
        return logits, self._layout.maps(tensor)


def _place(network: Network, name: str) -> HookPoint:
    place = HookPoint.parse(name)
    known = [module for module, _ in network.module.named_modules() if module]
    if place.name not in known:
        near = difflib.get_close_matches(place.name, known, 8, 0.3) or known[-8:]
        raise ExportRefused(f"{network.name} has no layer {place.name!r}; near it: {near}")
    return place


def _linear(
    network: Network, images: torch.Tensor, maps: torch.Tensor, logits: torch.Tensor
) -> tuple[Float32Array, Float32Array] | None:
    """Weights and bias of the head, where it is linear in the mean of the maps."""
    head = linear_head(network, images)
    if head is None or head.weights.shape[1] != maps.shape[1]:
        return None
    rebuilt = torch.tensor(maps.mean(dim=(2, 3)).numpy() @ head.weights.T + head.bias)
    return (head.weights, head.bias) if close(rebuilt, logits) else None


def _export_head(
    head: Head,
    maps: torch.Tensor,
    named: Mapping[str, torch.Tensor],
    logits: torch.Tensor,
    tolerance: float,
) -> _Exported:
    """The head with its gradients; without them, or not at all, where that cannot be."""
    contexts = [named[name] for name in head.contexts]
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    given = {ACTIVATION_MAPS: maps, CLASS_WEIGHTS: weights}
    given |= dict(zip(head.contexts, contexts, strict=True))
    try:
        traced, further = gradient_graph(head, maps, contexts, logits.shape[1])
        outputs = [LOGITS, HEAD_GRADIENT, *further]
        graph = to_onnx("the head with gradients", traced, [*given.values()], [*given], outputs)
        graph = conditional_gradient(graph)
        errors = head_parity(graph, head, given, further)
        if errors[0] <= tolerance and errors[1] <= _GRADIENT_TOLERANCE:
            return _Exported(GRADIENT, graph, *errors, tuple(further))
        without = "it differs from torch by {:.2g} (logits) and {:.2g} (gradients)".format(*errors)
    except Exception as failure:  # noqa: BLE001 - whatever tracing and translating may meet
        without = _operation(failure)
    del given[CLASS_WEIGHTS]
    try:
        graph = to_onnx("the head", head, [*given.values()], [*given], [LOGITS])
    except ExportRefused as failure:
        return _Exported(NO_HEAD, None, without=f"{without}; {_operation(failure)}")
    error, _ = head_parity(graph, head, given)
    if error <= tolerance:
        return _Exported(FORWARD, graph, error, without=without)
    return _Exported(NO_HEAD, None, without=f"{without}; by itself, by {error:.2g} (logits)")


def _operation(failure: BaseException) -> str:
    """Which operation cannot be had, out of whatever torch raised."""
    cause: BaseException | None = failure
    while cause is not None:
        named = re.search(r"(aten|prims)(\.\w+|::\w+)+", str(cause))
        if named:
            return f"{named.group().replace('::', '.')} cannot be differentiated or translated"
        cause = cause.__cause__
    return f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"


def weights_digest(network: Network, target_layer: str) -> str:
    """Identity of what a backbone computes, whichever exporter wrote it: "sha256:<hex>"."""
    identity = {
        "architecture": network.name,
        "target_layer": target_layer,
        "preprocessing": network.preprocessing.identity(),
        "class_names": network.class_names,
    }
    stated = network.vertex_positions
    if stated is not None:
        identity["vertex_positions"] = stated.tolist() if torch.is_tensor(stated) else stated
    return state_digest(network.module, canonical_json(identity))
