"""Which layer to explain, found by what the network computes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from textcam_service.core.types import Float32Array
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.tensor_layout import HookPoint, Layout
from textcam_service.offline.networks.loading import Network

# Between the head's input and the mean of the maps, both from the same run of torch.
HEAD_TOLERANCE = 1e-4
_MIN_SHARE = 0.5  # share of positions with a gradient
_CANDIDATES = 40


@dataclass(frozen=True)
class LinearHead:
    """A final linear layer.

    Attributes:
        name: Of the module.
        weights: (C, D).
        bias: (C,).
    """

    name: str
    weights: Float32Array
    bias: Float32Array


@dataclass(frozen=True)
class Target:
    """The chosen layer.

    Attributes:
        place: Where its maps are seen.
        head: The linear layer over the mean of its maps; None: the head is another.
    """

    place: HookPoint
    head: LinearHead | None


@dataclass(frozen=True)
class _Tap:
    place: HookPoint
    tensor: torch.Tensor
    layout: Layout
    pools: bool


def choose_target(network: Network, images: torch.Tensor, vertices: int = 0) -> Target:
    """Choose the usual target layer.

    Where the logits are a linear layer over the mean of a layer's maps, that layer. Elsewhere the
    last one through which all of the network passes and most of whose positions still matter to
    the logits: not so at the last block's output of a transformer that is read at its class token.
    Should a layer normalisation take that place's tensor, its output stands in the place's stead,
    although in a residual block the rest of the tensor goes around it: see _normalised.

    Args:
        network: What is explained.
        images: To try it with.
        vertices: V of a graph, on which the maps then stand; 0: they stand on a grid.

    Raises:
        ExportRefused: There is none.
    """
    found = _averaged(network, images, vertices)
    if found is not None:
        return found
    place = _last_spatial(network, images, vertices)
    if place is None:
        raise ExportRefused(
            f"{network.name}: no layer holds maps whose positions matter to the logits and "
            "through which all of the network passes; choose one with --target-layer"
        )
    return Target(place, None)


def linear_head(network: Network, images: torch.Tensor) -> LinearHead | None:
    """The linear layer whose output the logits are; None: they are not."""
    seen: list[tuple[str, nn.Linear, torch.Tensor]] = []
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name, module in network.module.named_modules():
            if isinstance(module, nn.Linear):
                hooks.enter_context(
                    _hook(module, lambda m, _, out, name=name: seen.append((name, m, out)))
                )
        logits = network.module(images)
    if not seen or not close(seen[-1][2], logits):
        return None
    name, head, _ = seen[-1]
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    return LinearHead(name, head.weight.detach().float().numpy(), bias.detach().float().numpy())


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors agree on their own scale; zeros tell nothing, so they never do."""
    scale = float(wanted.abs().max())
    if found.shape != wanted.shape or scale == 0:
        return False
    return float((found - wanted).abs().max()) <= HEAD_TOLERANCE * scale


def _averaged(network: Network, images: torch.Tensor, vertices: int) -> Target | None:
    """The layer whose global average the last linear layer takes."""
    head = linear_head(network, images)
    if head is None:
        return None
    pooled: list[torch.Tensor] = []
    means: list[tuple[HookPoint, torch.Tensor]] = []

    def record(tap: _Tap) -> None:
        # Modules that work in place would change the maps under our eyes.
        means.append((tap.place, tap.layout.maps(tap.tensor).mean(dim=(2, 3))))

    last = network.module.get_submodule(head.name)
    with _hook(last, lambda _, inputs, __: pooled.append(inputs[0])), torch.inference_mode():
        _watch(network.module, images, vertices, record)
    matching = [place for place, mean in means if close(mean, pooled[-1])]
    if not matching:
        return None
    outputs = [place for place in matching if not place.at_input]
    return Target((outputs or matching)[-1], head)


def _last_spatial(network: Network, images: torch.Tensor, vertices: int) -> HookPoint | None:
    """The last place that all of the network passes and whose positions matter."""
    module = copy.deepcopy(network.module)
    for child in module.modules():
        if hasattr(child, "inplace"):
            setattr(child, "inplace", False)  # noqa: B010 - of no torch type; it spoils gradients
    taps: list[_Tap] = []
    logits = _watch(module, images.clone().requires_grad_(True), vertices, taps.append)
    taps = [tap for tap in taps if tap.tensor.requires_grad and not tap.pools]
    torch.manual_seed(0)
    score = (logits * torch.randn_like(logits)).sum()
    gradients = torch.autograd.grad(
        score, [tap.tensor for tap in taps], allow_unused=True, retain_graph=False
    )
    tried: set[int] = set()
    for tap, gradient in reversed(list(zip(taps, gradients, strict=True))):
        if gradient is None or id(tap.tensor) in tried or len(tried) >= _CANDIDATES:
            continue
        tried.add(id(tap.tensor))
        size = tap.layout.maps(gradient).abs().sum(dim=(0, 1))
        lively = (size > 1e-6 * size.max()).float().mean()
        place = _outermost(taps, tap)
        if lively > _MIN_SHARE and _is_bottleneck(module, images, place):
            return _normalised(module, taps, tap) or place
    return None


def _normalised(module: nn.Module, taps: list[_Tap], chosen: _Tap) -> HookPoint | None:
    """The output of the layer normalisation that takes a place's tensor.

    Before it, gradients are orthogonal to each position's activations: evidence would cancel.
    """
    for tap in taps:
        same = tap.place.at_input and tap.tensor is chosen.tensor
        if same and isinstance(module.get_submodule(tap.place.name), nn.LayerNorm):
            return HookPoint(tap.place.name)
    return None


def _outermost(taps: list[_Tap], chosen: _Tap) -> HookPoint:
    """The outermost module that answers a place's tensor; else the place."""
    places = [tap.place for tap in taps if tap.tensor is chosen.tensor and not tap.place.at_input]
    return places[-1] if places else chosen.place


def _is_bottleneck(module: nn.Module, images: torch.Tensor, place: HookPoint) -> bool:
    """Whether nothing of the image goes around a place."""
    given = images[:1].clone().requires_grad_(True)
    target = module.get_submodule(place.name)
    if place.at_input:
        hook = target.register_forward_pre_hook(lambda _, a: (a[0].detach(), *a[1:]))
    else:
        hook = target.register_forward_hook(lambda _, __, output: output.detach())
    try:
        logits = module(given)
    finally:
        hook.remove()
    if not logits.requires_grad:
        return True
    (gradient,) = torch.autograd.grad(logits.sum(), given, allow_unused=True)
    return gradient is None or not bool(gradient.any())


def _watch(module: nn.Module, images: torch.Tensor, vertices: int, record: Any) -> torch.Tensor:
    """Run a network, and see the maps at each module's input and output, in order of time."""

    def see(name: str, child: nn.Module, tensor: Any, at_input: bool) -> None:
        if not isinstance(tensor, torch.Tensor) or tensor.shape[:1] != images.shape[:1]:
            return
        layout = Layout.of(tensor.shape, images.shape[2:], vertices)
        if layout is not None:
            pools = "pool" in type(child).__name__.casefold() and not at_input
            record(_Tap(HookPoint(name, at_input), tensor, layout, pools))

    with contextlib.ExitStack() as hooks:
        for name, child in module.named_modules():
            if not name:
                continue
            before = child.register_forward_pre_hook(
                lambda m, a, name=name: see(name, m, a[0] if a else None, at_input=True)
            )
            hooks.callback(before.remove)
            hooks.enter_context(
                _hook(child, lambda m, _, out, name=name: see(name, m, out, at_input=False))
            )
        logits: torch.Tensor = module(images)
    return logits


@contextlib.contextmanager
def _hook(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
