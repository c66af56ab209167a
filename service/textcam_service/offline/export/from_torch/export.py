"""Export of torch classifiers: choose, split, translate and verify; export.plan writes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from torch import nn

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT, LOGITS
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.heads import (
    TrunkSample,
    export_layers_head,
    export_target_head,
)
from textcam_service.offline.export.from_torch.split import Split, WithHooks, split
from textcam_service.offline.export.from_torch.target_layer import choose_target
from textcam_service.offline.export.from_torch.to_onnx import OPSET, to_onnx
from textcam_service.offline.export.from_torch.verification import backbone_errors
from textcam_service.offline.export.from_torch.vertices import vertex_source
from textcam_service.offline.export.plan import ExportPlan, write_export
from textcam_service.offline.export.report import ExportReport
from textcam_service.offline.export.tensor_layout import HookPoint, Layout, VertexSource
from textcam_service.offline.export.tried_networks import tried_note
from textcam_service.offline.networks.loading import weights_digest
from textcam_service.offline.networks.network import Network, has_names
from textcam_service.offline.networks.smoke_test import (
    check_logits,
    require_classifier,
    sample_images,
)


def export_network(
    network: Network,
    output: Path,
    *,
    target_layer: str = "",
    layers: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> ExportReport:
    """Export a classifier, split at its target layer.

    Args:
        network: The classifier.
        output: The backbone's folder; an existing backbone there is replaced.
        target_layer: A module's name, or "input of NAME"; empty: see choose_target.
        layers: Further layers; some methods take their maps and gradients.
        tolerance: Largest difference between onnxruntime and torch, of logits and of
            activation maps, relative to the largest value. If the head's own logits differ by more,
            or its gradients differ in norm by more than 1e-3 of theirs, it is exported without
            gradients, or not at all.

    Raises:
        ExportRefused: The network returns no logits, a layer holds no maps, the exporter cannot
            translate the network, or the result differs from torch by more than `tolerance`; or
            further layers were named and have no gradients that agree.
        FolderTaken: The folder holds anything but a backbone.
    """
    plan = plan_network(network, target_layer=target_layer, layers=layers, tolerance=tolerance)
    return write_export(plan, output)


def plan_network(
    network: Network,
    *,
    target_layer: str = "",
    layers: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> ExportPlan:
    """Split, translate and verify a classifier; arguments and errors as for export_network."""
    images = sample_images(network.preprocessing)
    _check_class_count(network, images)
    chosen = _choose(network, images, target_layer, layers)
    parts = split(network.module, images, chosen.target, chosen.layers, chosen.vertices)
    sample = _run_trunk(parts, images, chosen.target)
    backbone = to_onnx(
        network.name, parts.trunk, [images], [INPUT], [LOGITS, ACTIVATION_MAPS, *parts.outputs]
    )
    eager = _WithMaps(network.module, chosen.target, parts.head.layout)
    logits_error, maps_error = _verify(network.name, backbone, eager, images, tolerance)
    return ExportPlan(
        architecture=network.name,
        target_layer=str(chosen.target),
        weights_digest=weights_digest(network, str(chosen.target)),
        preprocessing=network.preprocessing,
        class_names=network.class_names,
        layout=parts.head.layout,
        backbone=backbone,
        outputs=parts.outputs,
        head=export_target_head(network, parts, sample, tolerance),
        logits_error=logits_error,
        maps_error=maps_error,
        exporter={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
            "opset": str(OPSET),
        },
        layers=tuple(map(str, parts.layers)),
        layers_head=export_layers_head(network, parts, sample, tolerance),
        vertices=chosen.vertices.count if chosen.vertices is not None else 0,
        notes=(*network.notes, *filter(None, (tried_note(network.name),))),
        multi_label=network.multi_label,
    )


def _check_class_count(network: Network, images: torch.Tensor) -> None:
    """Refuse a network that returns no logits, or not one for each class."""
    if not network.smoke_tested:
        class_count = check_logits(network.name, network.module, images).shape[1]
        if class_count != len(network.class_names):
            raise ExportRefused(
                f"{network.name}: {class_count} logits, {len(network.class_names)} class names"
            )
    if not has_names(network.class_names):
        require_classifier(network.name, network.module, images)


@dataclass(frozen=True)
class _Choice:
    """The layers to split at.

    Attributes:
        target: Hook point of the target layer.
        layers: Hook points of the further layers, in the order given.
        vertices: Vertices on which the maps lie; None: they lie on a grid.
    """

    target: HookPoint
    layers: tuple[HookPoint, ...]
    vertices: VertexSource | None


def _choose(
    network: Network, images: torch.Tensor, target_layer: str, layers: Sequence[str]
) -> _Choice:
    vertices = vertex_source(network, images)
    if target_layer:
        target = _hook_point(network, target_layer)
    else:
        count = vertices.count if vertices is not None else 0
        target = choose_target(network, images, count).point
    return _Choice(target, tuple(_hook_point(network, name) for name in layers), vertices)


def _hook_point(network: Network, name: str) -> HookPoint:
    """Find a layer by name, or refuse with the names of its neighbours."""
    point = HookPoint.parse(name)
    known = [module for module, _ in network.module.named_modules() if module]
    if point.name not in known:
        near = difflib.get_close_matches(point.name, known, 8, 0.3) or known[-8:]
        raise ExportRefused(f"{network.name} has no layer {point.name!r}; near it: {near}")
    return point


def _run_trunk(parts: Split, images: torch.Tensor, target: HookPoint) -> TrunkSample:
    """Run the trunk in torch, and refuse maps that do not hold one image after the other."""
    with torch.no_grad():  # tensors made in inference_mode() cannot be differentiated by later
        logits, maps, *further = parts.trunk(images)
    if any(len(tensor) != len(images) for tensor in (maps, *further)):
        raise ExportRefused(
            f"{target} or what goes around it does not hold one image after the other, as inside "
            "windows; choose the output of the block"
        )
    return TrunkSample(images, logits, maps, dict(zip(parts.outputs, further, strict=True)))


class _WithMaps(nn.Module):
    """The network as it stands, with its maps: (N, 3, h, w) -> logits, (N, D, H, W)."""

    def __init__(self, network: nn.Module, point: HookPoint, layout: Layout) -> None:
        super().__init__()
        self._hooked = WithHooks(network, [point])
        self._layout = layout

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, tensor = self._hooked(images)
        return logits, self._layout.maps(tensor)


def _verify(
    name: str, backbone: bytes, eager: nn.Module, images: torch.Tensor, tolerance: float
) -> tuple[float, float]:
    """Return the backbone's errors (logits, maps), or refuse larger ones than `tolerance`."""
    logits_error, maps_error = backbone_errors(backbone, eager, images)
    if not max(logits_error, maps_error) <= tolerance:
        raise ExportRefused(
            f"{name}: its ONNX form differs from torch by {logits_error:.2g} (logits) and "
            f"{maps_error:.2g} (activation maps), more than {tolerance:.2g}"
        )
    return logits_error, maps_error
