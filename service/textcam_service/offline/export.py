"""From a torch classifier to an ONNX backbone with two outputs, checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from textcam_service.artefact import canonical_json
from textcam_service.backbone import (
    ACTIVATION_MAPS,
    GAP_LINEAR,
    INPUT,
    LOGITS,
    BackboneManifest,
    write_backbone,
)
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import ExportRefused
from textcam_service.offline.grid import grid_shift
from textcam_service.offline.networks import Network, state_digest

_OPSET = 18
# Between the head's input and the mean of the maps, both from the same run of torch.
_HEAD_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how closely it agrees with torch.

    Attributes:
        architecture: Name of the network.
        target_layer: The module whose output (or input) are the activation maps.
        head: The final linear layer.
        weights_digest: Identity of network, weights, preprocessing and classes.
        logits_error: Largest difference of a logit, relative to max(1, largest logit).
        maps_error: The same of the activation maps.
        maps_shape: (D, H, W).
        class_count: C.
    """

    architecture: str
    target_layer: str
    head: str
    weights_digest: str
    logits_error: float
    maps_error: float
    maps_shape: tuple[int, int, int]
    class_count: int

    def __str__(self) -> str:
        channels, height, width = self.maps_shape
        return (
            f"{self.architecture}, {self.class_count} classes, {channels} channels of "
            f"{height} x {width} at {self.target_layer}, head {self.head}, parity "
            f"{self.logits_error:.1e} (logits) and {self.maps_error:.1e} (maps), "
            f"{self.weights_digest}"
        )


@dataclass(frozen=True)
class _Place:
    """Where a tensor is seen: at the output of a module, or at its input."""

    name: str
    at_input: bool

    def __str__(self) -> str:
        return f"input of {self.name}" if self.at_input else self.name

    def pick(self, inputs: tuple[Any, ...], output: Any) -> Any:
        return (inputs[0] if inputs else None) if self.at_input else output


class _WithMaps(nn.Module):
    """The network with the activation maps as its second output."""

    def __init__(self, network: nn.Module, place: _Place) -> None:
        super().__init__()
        self.network = network
        self._place = place

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen: list[torch.Tensor] = []  # a module may be called often: the last call counts
        hook = self.network.get_submodule(self._place.name).register_forward_hook(
            lambda _, inputs, output: seen.append(self._place.pick(inputs, output))
        )
        try:
            logits = self.network(image)
        finally:
            hook.remove()
        return logits, seen[-1]


def export_network(network: Network, output: Path, *, tolerance: float = 1e-4) -> ExportReport:
    """Export a network that ends in global average pooling and one linear layer.

    Args:
        network: What to export.
        output: The backbone's folder; replaced if it is there.
        tolerance: Largest difference between onnxruntime and torch, of logits and of
            activation maps, relative to max(1, largest value).

    Raises:
        ExportRefused: The head is another, the exporter cannot translate the network, or the
            result differs from torch by more than `tolerance`.
    """
    images = _sample_images(network)
    head_name, head, place = _find_head(network, images)
    model = _WithMaps(network.module, place).eval()
    with torch.inference_mode():
        logits, maps = (tensor.numpy() for tensor in model(images))
    weights, bias = _head_arrays(head)
    _check_head(network, maps.mean(axis=(2, 3)) @ weights.T + bias, logits, str(place))
    graph = _to_onnx(network, model, images)
    logits_error, maps_error = _parity(graph, model, images)
    if not max(logits_error, maps_error) <= tolerance:
        raise ExportRefused(
            f"{network.name}: its ONNX form differs from torch by {logits_error:.2g} (logits) and "
            f"{maps_error:.2g} (activation maps), more than {tolerance:.2g}"
        )
    channels, height, width = maps.shape[1:]
    digest = weights_digest(network, str(place))
    exporter = {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ort.__version__,
        "opset": str(_OPSET),
        "max_parity_error": f"{max(logits_error, maps_error):.3g}",
    }
    manifest = BackboneManifest(
        network.name,
        str(place),
        GAP_LINEAR,
        digest,
        network.preprocessing,
        network.class_names,
        channels,
        height,
        width,
        exporter,
        grid_shift(model, images),
    )
    write_backbone(output, graph, weights, bias, manifest)
    shape = (channels, height, width)
    return ExportReport(
        network.name,
        str(place),
        head_name,
        digest,
        logits_error,
        maps_error,
        shape,
        logits.shape[1],
    )


def weights_digest(network: Network, target_layer: str) -> str:
    """Identity of what a backbone computes, whichever exporter wrote it: "sha256:<hex>"."""
    identity = {
        "architecture": network.name,
        "target_layer": target_layer,
        "preprocessing": asdict(network.preprocessing),
        "class_names": network.class_names,
    }
    return state_digest(network.module, canonical_json(identity))


def _sample_images(network: Network) -> torch.Tensor:
    """Three network inputs (3, 3, h, w): smooth waves with noise, in normalised pixels' range."""
    height, width = network.preprocessing.height, network.preprocessing.width
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 2 * np.pi, (3, 3, 1, 1))
    waves = np.sin(x / 17 + phases) * np.cos(y / 23 + 2 * phases)
    return torch.tensor(waves + rng.normal(0, 0.5, (3, 3, height, width)), dtype=torch.float32)


def _find_head(network: Network, images: torch.Tensor) -> tuple[str, nn.Linear, _Place]:
    """Find the final linear layer, and the maps whose global average it takes."""
    linears: list[tuple[str, nn.Linear, torch.Tensor, torch.Tensor]] = []
    maps: list[tuple[_Place, torch.Tensor]] = []

    def record(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Linear):
            linears.append((name, module, inputs[0], output))
        for place in (_Place(name, at_input=True), _Place(name, at_input=False)):
            tensor = place.pick(inputs, output)
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and tensor[0, 0].numel() > 1:
                # Modules that work in place would change it under our eyes.
                maps.append((place, tensor.mean(dim=(2, 3))))

    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name, module in network.module.named_modules():
            if name:
                hooks.enter_context(_hook(name, module, record))
        logits = network.module(images)
    if not linears or not _close(linears[-1][3], logits):
        raise ExportRefused(
            f"{network.name}: its logits are not the output of a linear layer; only networks "
            "that end in global average pooling and one linear layer can be exported yet"
        )
    head_name, head, pooled, _ = linears[-1]
    matching = [place for place, mean in maps if _close(mean, pooled)]
    if not matching:
        raise ExportRefused(
            f"{network.name}: the input of its last linear layer {head_name!r} "
            f"({head.in_features} values; {len(linears)} linear layers in all) is not the global "
            "average of any module's activation maps; only networks that end in global average "
            "pooling and one linear layer can be exported yet"
        )
    outputs = [place for place in matching if not place.at_input]
    return head_name, head, (outputs or matching)[-1]


@contextlib.contextmanager
def _hook(name: str, module: nn.Module, record: Any) -> Iterator[None]:
    handle = module.register_forward_hook(
        lambda hooked, inputs, output: record(name, hooked, inputs, output)
    )
    try:
        yield
    finally:
        handle.remove()


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors agree on their own scale; zeros tell nothing, so they never do."""
    scale = float(wanted.abs().max())
    if found.shape != wanted.shape or scale == 0:
        return False
    return float((found - wanted).abs().max()) <= _HEAD_TOLERANCE * scale


def _difference(found: FloatArray, wanted: FloatArray) -> float:
    """Largest absolute difference, relative to max(1, largest wanted value)."""
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


def _head_arrays(head: nn.Linear) -> tuple[Float32Array, Float32Array]:
    weights = head.weight.detach().numpy().astype(np.float32)
    if head.bias is None:
        return weights, np.zeros(len(weights), np.float32)
    return weights, head.bias.detach().numpy().astype(np.float32)


def _check_head(
    network: Network, rebuilt: FloatArray, logits: FloatArray, target_layer: str
) -> None:
    if rebuilt.shape != logits.shape or logits.shape[1] != len(network.class_names):
        raise ExportRefused(
            f"{network.name}: {logits.shape[1]} logits, {len(network.class_names)} class names"
        )
    error = _difference(rebuilt, logits)
    if not error <= _HEAD_TOLERANCE:
        raise ExportRefused(
            f"{network.name}: the head over the mean of the maps at {target_layer} misses the "
            f"logits by {error:.2g}; it is not global average pooling and one linear layer"
        )


def _to_onnx(network: Network, model: _WithMaps, images: torch.Tensor) -> bytes:
    """Serialise the graph with a free batch dimension, all weights inside."""
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[LOGITS, ACTIVATION_MAPS],
                dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}},
                opset_version=_OPSET,
                verbose=False,
            )
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        graph = program.model_proto
    except Exception as error:  # whatever the exporter may meet in a foreign network
        raise ExportRefused(f"{network.name}: torch cannot export it to ONNX: {error}") from error
    for node in graph.graph.node:
        del node.metadata_props[:]  # stack traces with this machine's paths
    serialised: bytes = graph.SerializeToString()
    return serialised


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and warnings from the user; its errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _parity(graph: bytes, model: _WithMaps, images: torch.Tensor) -> tuple[float, float]:
    """Largest relative difference to torch of logits and maps, over batches of 1 and all."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    errors = []
    for batch in (images[:1], images):
        with torch.inference_mode():
            wanted = [tensor.numpy() for tensor in model(batch)]
        found = session.run([LOGITS, ACTIVATION_MAPS], {INPUT: batch.numpy()})
        errors.append([_difference(f, w) for f, w in zip(found, wanted, strict=True)])
    logits_error, maps_error = np.max(errors, axis=0).tolist()
    return logits_error, maps_error
