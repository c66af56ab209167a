"""Translation and verification of a torch network's heads: maps -> logits, with gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from textcam_service.artefacts.backbone import (
    ACTIVATION_MAPS,
    CLASS_WEIGHTS,
    FORWARD,
    GAP_LINEAR,
    GRADIENT,
    HEAD_GRADIENT,
    LAYER,
    LOGITS,
    NO_HEAD,
)
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.conditional_gradient import conditional_gradient
from textcam_service.offline.export.from_torch.head_vjp import gradient_graph
from textcam_service.offline.export.from_torch.split import Head, Split
from textcam_service.offline.export.from_torch.target_layer import is_close, linear_head
from textcam_service.offline.export.from_torch.to_onnx import to_onnx
from textcam_service.offline.export.from_torch.verification import head_errors
from textcam_service.offline.export.plan import ExportedHead
from textcam_service.offline.networks.network import Network

_GRADIENT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class TrunkSample:
    """The trunk's outputs for the sample images, as torch computes them.

    Attributes:
        images: (N, 3, h, w).
        logits: (N, C).
        maps: (N, D, H, W) of the target layer.
        further: The other outputs by name: further layers' maps, and contexts.
    """

    images: torch.Tensor
    logits: torch.Tensor
    maps: torch.Tensor
    further: Mapping[str, torch.Tensor]


def export_target_head(
    network: Network, parts: Split, sample: TrunkSample, tolerance: float
) -> ExportedHead:
    """Export the head of the target layer, in closed form if it has one.

    Args:
        network: The classifier.
        parts: Its parts.
        sample: Inputs and outputs of the head.
        tolerance: Largest relative difference of a logit.
    """
    closed_form = _closed_form(network, sample)
    if closed_form is not None:
        return closed_form
    return _export_head(parts.head, sample.maps, sample, tolerance)


def export_layers_head(
    network: Network, parts: Split, sample: TrunkSample, tolerance: float
) -> ExportedHead | None:
    """Export the head of the further layers; None if there are none. Arguments as above.

    Raises:
        ExportRefused: It has no gradients that agree with torch.
    """
    if parts.layers_head is None:
        return None
    head = _export_head(parts.layers_head, sample.further[f"{LAYER}0"], sample, tolerance)
    if head.kind != GRADIENT:
        raise ExportRefused(
            f"{network.name}: the further layers need gradients, but {head.without}; leave "
            "--layer out"
        )
    return head


def _closed_form(network: Network, sample: TrunkSample) -> ExportedHead | None:
    """Return the head as weights and bias, if it is linear in the mean of the maps."""
    head = linear_head(network, sample.images)
    if head is None or head.weights.shape[1] != sample.maps.shape[1]:
        return None
    pooled = sample.maps.mean(dim=(2, 3)).numpy()
    rebuilt = torch.tensor(pooled @ head.weights.T + head.bias)
    if not is_close(rebuilt, sample.logits):
        return None
    return ExportedHead(GAP_LINEAR, linear=(head.weights, head.bias))


def _export_head(
    head: Head, maps: torch.Tensor, sample: TrunkSample, tolerance: float
) -> ExportedHead:
    """Export a head with gradients; without them, or not at all, where that fails."""
    contexts = {name: sample.further[name] for name in head.contexts}
    exported, without = _with_gradients(head, maps, contexts, sample.logits, tolerance)
    if exported is not None:
        return exported
    given = {ACTIVATION_MAPS: maps, **contexts}
    try:
        graph = to_onnx("the head", head, [*given.values()], [*given], [LOGITS])
    except ExportRefused as failure:
        return ExportedHead(NO_HEAD, without=f"{without}; {_failed_operation(failure)}")
    error, _ = head_errors(graph, head, given)
    if error <= tolerance:
        return ExportedHead(FORWARD, graph, head.contexts, logits_error=error, without=without)
    return ExportedHead(NO_HEAD, without=f"{without}; by itself, by {error:.2g} (logits)")


def _with_gradients(
    head: Head,
    maps: torch.Tensor,
    contexts: Mapping[str, torch.Tensor],
    logits: torch.Tensor,
    tolerance: float,
) -> tuple[ExportedHead | None, str]:
    """Export a head with gradients; else (None, why not)."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    given = {ACTIVATION_MAPS: maps, CLASS_WEIGHTS: weights, **contexts}
    try:
        traced, further = gradient_graph(head, maps, [*contexts.values()], logits.shape[1])
        outputs = [LOGITS, HEAD_GRADIENT, *further]
        graph = to_onnx("the head with gradients", traced, [*given.values()], [*given], outputs)
        graph = conditional_gradient(graph)
        errors = head_errors(graph, head, given, further)
    except Exception as failure:  # noqa: BLE001 - any that tracing and translating may meet
        return None, _failed_operation(failure)
    if errors[0] <= tolerance and errors[1] <= _GRADIENT_TOLERANCE:
        exported = ExportedHead(
            GRADIENT,
            graph,
            head.contexts,
            tuple(further),
            logits_error=errors[0],
            gradient_error=errors[1],
        )
        return exported, ""
    return None, "it differs from torch by {:.2g} (logits) and {:.2g} (gradients)".format(*errors)


def _failed_operation(failure: BaseException) -> str:
    """Name the operation that torch could not handle, from the exceptions it raised."""
    cause: BaseException | None = failure
    while cause is not None:
        named = re.search(r"(aten|prims)(\.\w+|::\w+)+", str(cause))
        if named:
            return f"{named.group().replace('::', '.')} cannot be differentiated or translated"
        cause = cause.__cause__
    return f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
