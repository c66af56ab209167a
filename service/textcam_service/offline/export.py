"""From a torch classifier to an ONNX backbone that provably computes the same."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

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
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks import Network

_OPSET = 18
_HEAD_TOLERANCE = 1e-3
_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the largest relative difference to torch."""

    architecture: str
    target_layer: str
    channel_count: int
    map_height: int
    map_width: int
    difference: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.architecture}, target layer '{self.target_layer}' "
            f"({self.channel_count} x {self.map_height} x {self.map_width}), "
            f"within {self.difference:.1e} of torch"
        )


class _TwoOutputs(nn.Module):
    """Answers logits and what enters the pooling layer."""

    def __init__(self, network: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.maps: torch.Tensor | None = None
        self.hook = pool.register_forward_pre_hook(self._keep)

    def _keep(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.maps = inputs[0]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(image)
        maps, self.maps = self.maps, None
        assert maps is not None  # noqa: S101 - the pooling layer ran
        return logits, maps


def export_network(network: Network, output: Path, *, tolerance: float = 1e-4) -> ExportReport:
    """Export a network with a GAP + linear head.

    Args:
        network: See load_network.
        output: Backbone folder; replaced if it is there.
        tolerance: Largest difference to torch, relative to the largest value.

    Raises:
        ExportRefused: The head is no GAP + linear one, or the graph computes otherwise.
    """
    pool_name, pool, head = _find_head(network.module)
    two = _TwoOutputs(network.module, pool).eval()
    try:
        return _export(network, two, pool_name, head, output, tolerance)
    finally:
        two.hook.remove()


def _export(
    network: Network,
    two: _TwoOutputs,
    pool_name: str,
    head: nn.Linear,
    output: Path,
    tolerance: float,
) -> ExportReport:
    sample = _sample(network.preprocessing)
    with torch.no_grad():
        logits, maps = two(sample)
    _require_linear_head(logits, maps, head, network.name)
    model = _to_onnx(two, sample)
    difference = _parity(model, two, sample)
    if not difference <= tolerance:
        raise ExportRefused(
            f"the exported {network.name} differs from torch by {difference:.2e}, over the "
            f"{tolerance:.0e} that is allowed; nothing was written"
        )
    weights, bias = _arrays(head)
    if len(network.class_names) != len(weights):
        raise ExportRefused(f"{len(weights)} logits, but {len(network.class_names)} class names")
    manifest = BackboneManifest(
        architecture=network.name,
        target_layer=f"input of {pool_name}",
        head_kind=GAP_LINEAR,
        weights_digest=_identity(network),
        preprocessing=network.preprocessing,
        class_names=network.class_names,
        channel_count=maps.shape[1],
        map_height=maps.shape[2],
        map_width=maps.shape[3],
        exporter={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "difference": f"{difference:.2e}",
        },
    )
    write_backbone(output, model, weights, bias, manifest)
    return ExportReport(
        network.name,
        manifest.target_layer,
        manifest.channel_count,
        manifest.map_height,
        manifest.map_width,
        difference,
    )


def _find_head(module: nn.Module) -> tuple[str, nn.Module, nn.Linear]:
    """The last pooling layer and the last linear layer.

    Raises:
        ExportRefused: There is none.
    """
    pools = [(name, part) for name, part in module.named_modules() if _is_pool(part)]
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not pools or not linears:
        raise ExportRefused(
            "the network has no global average pooling followed by a linear layer "
            f"({len(pools)} pooling and {len(linears)} linear layers found); "
            "only GAP + linear heads are exported"
        )
    return (*pools[-1], linears[-1])


def _is_pool(module: nn.Module) -> bool:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module.output_size in (1, (1, 1))
    # timm's SelectAdaptivePool2d and its kind.
    return getattr(module, "pool_type", "").startswith(("avg", "fast"))


def _require_linear_head(
    logits: torch.Tensor, maps: torch.Tensor, head: nn.Linear, name: str
) -> None:
    """Check numerically that logits = W mean(maps) + b: then nothing stands in between."""
    fits = maps.ndim == 4 and maps.shape[1] == head.in_features
    if fits:
        with torch.no_grad():
            expected = head(maps.mean(dim=(2, 3)))
        # On the logits' own scale, or a small head would hide what stands in between.
        spread = float(logits.max() - logits.min())
        fits = (
            expected.shape == logits.shape
            and spread > 0
            and float((expected - logits).abs().max()) <= _HEAD_TOLERANCE * spread
        )
    if not fits:
        raise ExportRefused(
            f"the head of {name} is no GAP + linear one: from maps of shape "
            f"{tuple(maps.shape)}, its last linear layer ({head.in_features} to "
            f"{head.out_features}) does not give its logits; only GAP + linear heads are exported"
        )


def _to_onnx(module: nn.Module, sample: torch.Tensor) -> bytes:
    """Serialise with a dynamic batch; the exporter's chatter is dropped."""
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (sample,),
            buffer,  # type: ignore[arg-type] # it takes files too
            input_names=[INPUT],
            output_names=[LOGITS, ACTIVATION_MAPS],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, LOGITS, ACTIVATION_MAPS)},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def _parity(model: bytes, module: nn.Module, sample: torch.Tensor) -> float:
    """Largest difference over outputs and batch sizes 1 and 3, relative to the largest value."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 3):
        with torch.no_grad():
            expected = module(sample[:count])
        answers = session.run([LOGITS, ACTIVATION_MAPS], {INPUT: sample[:count].numpy()})
        for want, got in zip(expected, answers, strict=True):
            scale = max(_SMALLEST_SCALE, float(want.abs().max()))
            worst = max(worst, float(np.abs(want.numpy() - got).max()) / scale)
    return worst


def _sample(preprocessing: Preprocessing) -> torch.Tensor:
    """Three seeded images: noise over a smooth pattern, in the range of normalised pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 3, preprocessing.height, preprocessing.width)
    coarse = torch.randn(3, 3, 7, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear")
    return smooth + 0.3 * torch.randn(shape, generator=generator)


def _arrays(head: nn.Linear) -> tuple[Float32Array, Float32Array]:
    weights = head.weight.detach().numpy().astype(np.float32)
    bias = np.zeros(len(weights)) if head.bias is None else head.bias.detach().numpy()
    return weights, bias.astype(np.float32)


def _identity(network: Network) -> str:
    """Digest of what the network is, whatever exports it."""
    digest = hashlib.sha256()
    about = [network.name, asdict(network.preprocessing), list(network.class_names)]
    digest.update(canonical_json(about))
    for name, tensor in sorted(network.module.state_dict().items()):
        array = np.ascontiguousarray(tensor.numpy())
        digest.update(canonical_json([name, array.dtype.str, list(array.shape)]))
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()}"
