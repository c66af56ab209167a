"""Choice of the layer to explain, by what the network computes."""

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
from textcam_service.offline.networks.network import Network

# Between the head's input and the mean of the maps, both from the same run of torch.
HEAD_TOLERANCE = 1e-4
_MIN_SHARE = 0.5  # share of positions with a gradient
_CANDIDATES = 40
_NAMED = 5  # layers in an error
_READING = ("pool", "attention", "attn")  # in names of classes that pool by attention
_KEYS = {"k", "key", "keys", "kv", "qkv", "to_k", "to_kv", "to_qkv", "k_proj", "key_proj"}


@dataclass(frozen=True)
class LinearHead:
    """A final linear layer.

    Attributes:
        name: Name of the module.
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
        point: Hook point of its maps.
        head: The linear layer over the mean of its maps; None: the head is of another kind.
    """

    point: HookPoint
    head: LinearHead | None


@dataclass(frozen=True)
class _Hook:
    """A tensor that holds maps, as seen at a hook point; `pools`: it is a pooling's output."""

    point: HookPoint
    tensor: torch.Tensor
    layout: Layout
    pools: bool


def choose_target(network: Network, images: torch.Tensor, vertices: int = 0) -> Target:
    """Choose the usual target layer.

    If the logits are a linear layer over the mean of a layer's maps, it is that layer. Otherwise
    it is the last layer that is a bottleneck (all of the network passes through it) and spatial
    (most of its positions still matter to the logits). The last block's output of a transformer
    that is read at its class token is not spatial. Keys and values of a pooling by attention are
    passed over, for the layer that it takes.

    If a layer normalisation takes that layer's tensor, its output is chosen instead, although in
    a residual block the rest of the tensor goes around it: see _layer_norm_output.

    Args:
        network: The network to explain.
        images: Sample images (N, 3, h, w).
        vertices: V of a graph, on which the maps then stand; 0: they stand on a grid.

    Raises:
        ExportRefused: No layer is both.
    """
    found = _averaged(network, images, vertices)
    if found is not None:
        return found
    misses: list[str] = []
    point = _last_spatial(network, images, vertices, misses)
    if point is None:
        near = "; ".join(misses[:_NAMED]) or "none of its modules takes or gives such a tensor"
        raise ExportRefused(
            f"{network.name}: no layer holds maps whose positions matter to the logits and "
            f"through which all of the network passes; choose one with --target-layer; near: {near}"
        )
    return Target(point, None)


def linear_head(network: Network, images: torch.Tensor) -> LinearHead | None:
    """Return the linear layer that gives the logits; None if there is none."""
    seen: list[tuple[str, nn.Linear, torch.Tensor]] = []
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name, module in network.module.named_modules():
            if isinstance(module, nn.Linear):
                hooks.enter_context(
                    _hooked(module, lambda m, _, out, name=name: seen.append((name, m, out)))
                )
        logits = network.module(images)
    if not seen or not is_close(seen[-1][2], logits):
        return None
    name, head, _ = seen[-1]
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    return LinearHead(name, head.weight.detach().float().numpy(), bias.detach().float().numpy())


def is_close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Return True if two tensors agree on their own scale; tensors of zeros never agree."""
    scale = float(wanted.abs().max())
    if found.shape != wanted.shape or scale == 0:
        return False
    return float((found - wanted).abs().max()) <= HEAD_TOLERANCE * scale


def _averaged(network: Network, images: torch.Tensor, vertices: int) -> Target | None:
    """Return the layer with the global average that the last linear layer takes."""
    head = linear_head(network, images)
    if head is None:
        return None
    pooled: list[torch.Tensor] = []
    means: list[tuple[HookPoint, torch.Tensor]] = []

    def record(hook: _Hook) -> None:
        # Pooled at once: a module that works in place changes the maps afterwards.
        means.append((hook.point, hook.layout.maps(hook.tensor).mean(dim=(2, 3))))

    last = network.module.get_submodule(head.name)
    with (
        _hooked(last, lambda _, inputs, __: pooled.append(inputs[0])),
        torch.inference_mode(),
    ):
        _watch(network.module, images, vertices, record)
    matching = [point for point, mean in means if is_close(mean, pooled[-1])]
    if not matching:
        return None
    outputs = [point for point in matching if not point.at_input]
    return Target((outputs or matching)[-1], head)


def _last_spatial(
    network: Network, images: torch.Tensor, vertices: int, misses: list[str]
) -> HookPoint | None:
    """Return the last hook point that is a bottleneck and has positions that matter.

    Args:
        network: The network to explain.
        images: Sample images (N, 3, h, w).
        vertices: As for choose_target.
        misses: Takes the layers that hold maps and are not both, the last first, with the reason.
    """
    module = copy.deepcopy(network.module)
    for child in module.modules():
        if hasattr(child, "inplace"):
            setattr(child, "inplace", False)  # noqa: B010 - of no torch type; it spoils gradients
    hooks: list[_Hook] = []
    logits = _watch(module, images.clone().requires_grad_(True), vertices, hooks.append)
    readers = _readers(module, hooks, images)
    hooks = [hook for hook in hooks if hook.tensor.requires_grad and not hook.pools]
    if not hooks:
        return None
    gradients = torch.autograd.grad(
        _score(logits), [hook.tensor for hook in hooks], allow_unused=True, retain_graph=False
    )
    tried: set[int] = set()
    for hook, gradient in reversed(list(zip(hooks, gradients, strict=True))):
        if gradient is None or id(hook.tensor) in tried or len(tried) >= _CANDIDATES:
            continue
        if hook.point.name.startswith(readers):
            continue
        tried.add(id(hook.tensor))
        size = hook.layout.maps(gradient).abs().sum(dim=(0, 1))
        share = (size > 1e-6 * size.max()).float().mean()
        point = _outermost(hooks, hook)
        if share <= _MIN_SHARE:
            misses.append(f"'{point}' ({share:.0%} of its positions matter)")
        elif _is_bottleneck(module, images, point):
            return _layer_norm_output(module, hooks, hook) or point
        else:
            misses.append(f"'{point}' (more of the image goes around it)")
    return None


def _readers(module: nn.Module, hooks: list[_Hook], images: torch.Tensor) -> tuple[str, ...]:
    """Return how names begin inside of modules that pool maps by attention.

    They take maps, and give none of that grid. Keys and values inside are no features.
    """
    grids = {(hook.point, hook.layout.height, hook.layout.width) for hook in hooks}
    found = []
    for hook in hooks:
        name = hook.point.name
        given = (HookPoint(name), hook.layout.height, hook.layout.width)
        if not hook.point.at_input or given in grids or hook.tensor.shape == images.shape:
            continue
        child = module.get_submodule(name)
        kind = type(child).__name__.casefold()
        parts = {part.casefold() for part, _ in child.named_children()}
        if any(word in kind for word in _READING) or not parts.isdisjoint(_KEYS):
            found.append(f"{name}.")
    return tuple(found)


def _layer_norm_output(module: nn.Module, hooks: list[_Hook], chosen: _Hook) -> HookPoint | None:
    """Return the output of the layer normalisation that takes the chosen tensor, if any does.

    Before it, gradients are orthogonal to each position's activations: evidence would cancel.
    """
    for hook in hooks:
        same = hook.point.at_input and _is_same(hook.tensor, chosen.tensor)
        if same and isinstance(module.get_submodule(hook.point.name), nn.LayerNorm):
            return HookPoint(hook.point.name)
    return None


def _outermost(hooks: list[_Hook], chosen: _Hook) -> HookPoint:
    """Return the outermost module that returns the chosen tensor; else its own hook point."""
    same = [hook.point for hook in hooks if _is_same(hook.tensor, chosen.tensor)]
    outputs = [point for point in same if not point.at_input]
    return outputs[-1] if outputs else chosen.point


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return True for a tensor and itself, and for a view of all of it, as tokens[:, 0:]."""
    place = (one.data_ptr(), one.shape, one.stride()) if one is not other else None
    return place is None or place == (other.data_ptr(), other.shape, other.stride())


def _is_bottleneck(module: nn.Module, images: torch.Tensor, point: HookPoint) -> bool:
    """Return True if every path from input to logits passes through the hook point."""
    given = images[:1].clone().requires_grad_(True)
    target = module.get_submodule(point.name)
    if point.at_input:
        hook = target.register_forward_pre_hook(lambda _, a: (a[0].detach(), *a[1:]))
    else:
        hook = target.register_forward_hook(lambda _, __, output: output.detach())
    try:
        logits = module(given)
    finally:
        hook.remove()
    if not logits.requires_grad:
        return True
    (gradient,) = torch.autograd.grad(_score(logits), given, allow_unused=True)
    return gradient is None or not bool(gradient.any())


def _score(logits: torch.Tensor) -> torch.Tensor:
    """Weight the logits by seeded noise, and add them up.

    Their plain sum has no gradient where they add up to a constant, as [z, -z] do.
    """
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    return (logits * weights).sum()


def _watch(module: nn.Module, images: torch.Tensor, vertices: int, record: Any) -> torch.Tensor:
    """Run a network and record the maps at each module's input and output, in order of time."""

    def see(name: str, child: nn.Module, tensor: Any, at_input: bool) -> None:
        if not isinstance(tensor, torch.Tensor) or tensor.shape[:1] != images.shape[:1]:
            return
        layout = Layout.of(tensor.shape, images.shape[2:], vertices)
        if layout is not None:
            pools = "pool" in type(child).__name__.casefold() and not at_input
            record(_Hook(HookPoint(name, at_input), tensor, layout, pools))

    with contextlib.ExitStack() as hooks:
        for name, child in module.named_modules():
            if not name:
                continue
            before = child.register_forward_pre_hook(
                lambda m, a, name=name: see(name, m, a[0] if a else None, at_input=True)
            )
            hooks.callback(before.remove)
            hooks.enter_context(
                _hooked(child, lambda m, _, out, name=name: see(name, m, out, at_input=False))
            )
        logits: torch.Tensor = module(images)
    return logits


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
