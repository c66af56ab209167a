"""Cutting a network at its target layer: image -> maps -> logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from textcam_service.artefacts.backbone import VERTEX_POSITIONS
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.tensor_layout import HookPoint, Layout, VertexSource
from textcam_service.offline.export.torch.fx_graph import descendants, extract_head, trace

Argument: TypeAlias = Any


class WithHooks(nn.Module):
    """The network with tensors of the given places as further outputs."""

    def __init__(self, network: nn.Module, places: Sequence[HookPoint]) -> None:
        super().__init__()
        self.network = network
        self._places = tuple(places)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images (N, 3, h, w) to logits (N, C) and the places' tensors."""
        seen: dict[
            HookPoint, torch.Tensor
        ] = {}  # a module may be called often: the last call counts
        with _watching(self.network, self._places, seen):
            logits = self.network(image)
        return (logits, *(seen[place] for place in self._places))


@contextlib.contextmanager
def _watching(
    network: nn.Module, places: Sequence[HookPoint], seen: dict[HookPoint, Any]
) -> Iterator[None]:
    """Keep what the places hold while the network runs."""

    def keep(place: HookPoint) -> Any:
        return lambda _, inputs, output: seen.__setitem__(place, place.pick(inputs, output))

    with contextlib.ExitStack() as hooks:
        for place in places:
            module = network.get_submodule(place.name)
            hooks.callback(module.register_forward_hook(keep(place)).remove)
        yield


class Trunk(nn.Module):
    """The graph of the image's part: all that backbone.onnx answers, in its order.

    Where the vertices' positions (V, 2) are the same for each image, they come last.
    """

    def __init__(
        self,
        body: fx.GraphModule,
        layouts: Sequence[Layout],
        positions: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self._body, self._layouts = body, tuple(layouts)
        self._positions: torch.Tensor | None
        self.register_buffer("_positions", positions)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images (N, 3, h, w) -> logits, maps of each layer, prefixes, then other crossings."""
        logits, *tensors = self._body(image)
        count = len(self._layouts)
        layers, crossings = tensors[:count], tensors[count:]
        maps = [layout.maps(t) for layout, t in zip(self._layouts, layers, strict=True)]
        # A further layer other than the first is a tap only: its prefix is not needed.
        prefixes = [
            t[:, : layout.prefix]
            for layout, t in list(zip(self._layouts, layers, strict=True))[:2]
            if layout.prefix
        ]
        answered = (logits, *maps, *prefixes, *crossings)
        if self._positions is None:
            return answered
        return (*answered, self._positions.expand(image.shape[0], -1, -1))


class Head(nn.Module):
    """Activation maps and contexts -> logits.

    Attributes:
        body: The layer's tensor and crossings -> logits.
        layout: Of the layer's tensor.
        contexts: Names of the further inputs: the prefix, if any, then the crossings.
        taps: Nodes of the body where later layers are seen, with their layouts.
    """

    def __init__(
        self,
        body: fx.GraphModule,
        layout: Layout,
        contexts: Sequence[str],
        taps: Sequence[tuple[str, Layout]] = (),
    ) -> None:
        super().__init__()
        self.body, self.layout, self.contexts, self.taps = body, layout, tuple(contexts), taps

    def arguments(self, maps: torch.Tensor, contexts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The body's arguments."""
        prefix, others = None, list(contexts)
        if self.layout.prefix:
            prefix = others.pop(0)
        return [self.layout.whole(maps, prefix), *others]

    def forward(self, activation_maps: torch.Tensor, *contexts: torch.Tensor) -> torch.Tensor:
        """(N, D, H, W) and contexts to logits (N, C)."""
        logits: torch.Tensor = self.body(*self.arguments(activation_maps, contexts))
        return logits


@dataclass(frozen=True)
class Split:
    """A network in parts.

    Attributes:
        trunk: Image -> logits, maps, further layers' maps, contexts.
        outputs: Names of the trunk's outputs after the logits and the maps.
        head: The target layer's maps and contexts -> logits.
        layers_head: The same from the first of the further layers; None: there are none.
        layers: The further layers, the first to compute first.
    """

    trunk: Trunk
    outputs: tuple[str, ...]
    head: Head
    layers_head: Head | None
    layers: tuple[HookPoint, ...]


def split(
    network: nn.Module,
    images: torch.Tensor,
    place: HookPoint,
    further: Sequence[HookPoint] = (),
    vertices: VertexSource | None = None,
) -> Split:
    """Cut a network at a place.

    Args:
        network: In evaluation mode.
        images: (N >= 2, 3, h, w) to trace it with.
        place: Of the target layer.
        further: Other layers whose maps and gradients are wanted.
        vertices: On which the maps stand; their positions are answered too. None: on a grid.

    Raises:
        ExportRefused: A place holds no maps, too much of the image goes around it, or a further
            layer adds nothing to the others.
    """
    _require_tensors(network, images, (place, *further))
    asked = (vertices.place,) if vertices is not None and vertices.place else ()
    whole = trace(WithHooks(network, (place, *further, *asked)), images)
    output = next(node for node in whole.graph.nodes if node.op == "output")
    logits, target, *others = output.args[0]
    order = list(whole.graph.nodes).index
    # The positions come last, and belong to no further layer.
    layers = sorted(zip(others, further, strict=False), key=lambda layer: order(layer[0]))
    grid = images.shape[2:], vertices.count if vertices is not None else 0
    layout = _layout(place, target, *grid)
    taps = [(node, _layout(name, node, *grid)) for node, name in layers]
    body, crossing = extract_head(whole, target, logits, str(place))
    crossings = {f"context_{index}": node for index, node in enumerate(crossing)}
    head = Head(body, layout, (*(["prefix"] if layout.prefix else []), *crossings))
    layers_head = None
    if taps:
        _require_chain(whole, logits, (target, place), layers)
        start, first = taps[0]
        body, crossing = extract_head(whole, start, logits, str(layers[0][1]))
        named = {f"layer_context_{index}": node for index, node in enumerate(crossing)}
        prefix = ["layer_prefix"] if first.prefix else []
        seen = [(node.name, own) for node, own in taps[1:]]
        layers_head = Head(body, first, (*prefix, *named), seen)
        crossings |= named
    if asked:
        crossings[VERTEX_POSITIONS] = others[-1]
    output.args = ((logits, target, *(node for node, _ in taps), *crossings.values()),)
    whole.graph.set_codegen(fx.graph.CodeGen())  # the exporter's counts the outputs
    whole.recompile()
    fixed = vertices.positions if vertices is not None else None
    trunk = Trunk(whole, [layout, *(own for _, own in taps)], fixed)
    prefixes = [name for name in ("prefix", "layer_prefix") if _takes(name, head, layers_head)]
    outputs = (*(f"layer_{index}" for index in range(len(taps))), *prefixes, *crossings)
    outputs += () if fixed is None else (VERTEX_POSITIONS,)
    return Split(trunk, outputs, head, layers_head, tuple(name for _, name in layers))


def _takes(name: str, *heads: Head | None) -> bool:
    return any(head is not None and name in head.contexts for head in heads)


def _layout(place: HookPoint, node: fx.Node, size: Sequence[int], vertices: int) -> Layout:
    shape = [-1, *(int(extent) for extent in node.meta["val"].shape[1:])]
    layout = Layout.of(shape, size, vertices)
    if layout is None:
        wanted = f"one row for each of {vertices} vertices" if vertices else "tokens"
        raise ExportRefused(
            f"{place} has shape {tuple(shape[1:])}: no maps of more than one cell, nor {wanted}"
        )
    return layout


def _require_tensors(network: nn.Module, images: torch.Tensor, places: Sequence[HookPoint]) -> None:
    """Refuse modules that are never called, or that do not answer one tensor."""
    seen: dict[HookPoint, Any] = {}
    with torch.no_grad(), _watching(network, places, seen):
        network(images)
    for place in places:
        if place not in seen:
            raise ExportRefused(
                f"{place} is a module that the network never calls; name one that it does, such "
                "as a module inside of it or around it"
            )
        if not isinstance(seen[place], torch.Tensor):
            raise ExportRefused(
                f"{place} holds a {type(seen[place]).__name__}, not one tensor; name a module "
                "inside of it, or 'input of' the module that takes its maps"
            )


def _require_chain(
    whole: fx.GraphModule,
    logits: fx.Node,
    target: tuple[fx.Node, HookPoint],
    layers: Sequence[tuple[fx.Node, HookPoint]],
) -> None:
    """Refuse further layers that repeat another, or that are not computed from the first."""
    known = dict([target])
    first, first_name = layers[0]
    after = descendants(whole.graph, {first})
    for node, name in layers:
        if node in known:
            raise ExportRefused(
                f"the further layer {name} holds the same maps as {known[node]}; name each layer "
                "once, and the target layer not at all"
            )
        known[node] = name
        if node not in after:
            raise ExportRefused(
                f"the further layer {name} is not computed from {first_name}, the first of them; "
                "name layers that follow one another, or one of the two only"
            )
        if logits not in descendants(whole.graph, {node}):
            raise ExportRefused(
                f"the logits do not depend on the further layer {name}; leave it out"
            )
