"""Splitting a network at its target layer: image -> maps -> logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from textcam_service.artefacts.backbone import LAYER, VERTEX_POSITIONS
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.fx_graph import descendants, extract_head, trace
from textcam_service.offline.export.tensor_layout import HookPoint, Layout, VertexSource

_PREFIX = "prefix"


class WithHooks(nn.Module):
    """The network with tensors at the given hook points as further outputs."""

    def __init__(self, network: nn.Module, points: Sequence[HookPoint]) -> None:
        super().__init__()
        self.network = network
        self._points = tuple(points)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map images (N, 3, h, w) to logits (N, C) and the hook points' tensors."""
        seen: dict[
            HookPoint, torch.Tensor
        ] = {}  # a module may be called often: the last call counts
        with _watching(self.network, self._points, seen):
            logits = self.network(image)
        return (logits, *(seen[point] for point in self._points))


@contextlib.contextmanager
def _watching(
    network: nn.Module, points: Sequence[HookPoint], seen: dict[HookPoint, Any]
) -> Iterator[None]:
    """Keep the tensors at the hook points while the network runs."""

    def keep(point: HookPoint) -> Any:
        return lambda _, inputs, output: seen.__setitem__(point, point.pick(inputs, output))

    with contextlib.ExitStack() as hooks:
        for point in points:
            module = network.get_submodule(point.name)
            hooks.callback(module.register_forward_hook(keep(point)).remove)
        yield


class Trunk(nn.Module):
    """The graph of the image's part, with all outputs of backbone.onnx, in its order.

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
        """Map images (N, 3, h, w) to logits, maps of each layer, prefixes, then other crossings."""
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
        layout: Layout of the maps in the layer's tensor.
        contexts: Names of the further inputs: the prefix, if any, then the crossings.
        taps: Nodes of the body that hold later layers' tensors, with their layouts.
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
        """Return the body's arguments."""
        prefix, others = None, list(contexts)
        if self.layout.prefix:
            prefix = others.pop(0)
        return [self.layout.tensor_from(maps, prefix), *others]

    def forward(self, activation_maps: torch.Tensor, *contexts: torch.Tensor) -> torch.Tensor:
        """Map (N, D, H, W) and contexts to logits (N, C)."""
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
    point: HookPoint,
    further: Sequence[HookPoint] = (),
    vertices: VertexSource | None = None,
) -> Split:
    """Split a network at a hook point.

    Args:
        network: The network, in evaluation mode.
        images: (N >= 2, 3, h, w) to trace it with.
        point: The target layer.
        further: Other layers, for their maps and gradients.
        vertices: Vertices on which the maps lie; the trunk returns their positions too. None: the
            maps lie on a grid.

    Raises:
        ExportRefused: A hook point holds no maps, too much of the image goes around it, or a
            further layer adds nothing to the others.
    """
    _require_tensors(network, images, (point, *further))
    positions = (vertices.point,) if vertices is not None and vertices.point else ()
    whole = trace(WithHooks(network, (point, *further, *positions)), images)
    output = next(node for node in whole.graph.nodes if node.op == "output")
    logits, target, *others = output.args[0]
    order = list(whole.graph.nodes).index
    # The positions come last, and belong to no further layer.
    found = sorted(zip(others, further, strict=False), key=lambda layer: order(layer[0]))
    grid = images.shape[2:], vertices.count if vertices is not None else 0
    first = _Layer.of(target, point, *grid)
    layers = [_Layer.of(node, own, *grid) for node, own in found]
    head, crossings = _head(whole, first, logits)
    layers_head = None
    if layers:
        _require_chain(whole, logits, first, layers)
        layers_head, own_crossings = _head(whole, layers[0], logits, LAYER, layers[1:])
        crossings |= own_crossings
    if positions:
        crossings[VERTEX_POSITIONS] = others[-1]
    output.args = ((logits, target, *(layer.node for layer in layers), *crossings.values()),)
    whole.graph.set_codegen(fx.graph.CodeGen())  # the exporter's counts the outputs
    whole.recompile()
    fixed = vertices.positions if vertices is not None else None
    trunk = Trunk(whole, [layer.layout for layer in (first, *layers)], fixed)
    contexts = {*head.contexts, *(layers_head.contexts if layers_head is not None else ())}
    prefixes = [name for name in (_PREFIX, LAYER + _PREFIX) if name in contexts]
    outputs = (*(f"{LAYER}{index}" for index in range(len(layers))), *prefixes, *crossings)
    outputs += () if fixed is None else (VERTEX_POSITIONS,)
    return Split(trunk, outputs, head, layers_head, tuple(layer.point for layer in layers))


@dataclass(frozen=True)
class _Layer:
    """A layer's tensor in the traced graph."""

    node: fx.Node
    point: HookPoint
    layout: Layout

    @staticmethod
    def of(node: fx.Node, point: HookPoint, size: Sequence[int], vertices: int) -> _Layer:
        """Find the layout of a layer, or refuse a layer that holds no maps."""
        shape = [-1, *(int(extent) for extent in node.meta["val"].shape[1:])]
        layout = Layout.of(shape, size, vertices)
        if layout is None:
            wanted = f"one row for each of {vertices} vertices" if vertices else "tokens"
            raise ExportRefused(
                f"{point} has shape {tuple(shape[1:])}: no maps of more than one cell, nor {wanted}"
            )
        return _Layer(node, point, layout)


def _head(
    whole: fx.GraphModule,
    layer: _Layer,
    logits: fx.Node,
    names: str = "",
    taps: Sequence[_Layer] = (),
) -> tuple[Head, dict[str, fx.Node]]:
    """Extract a layer's head, and its crossings by name; `names` begins the contexts' names."""
    body, nodes = extract_head(whole, layer.node, logits, str(layer.point))
    crossings = {f"{names}context_{index}": node for index, node in enumerate(nodes)}
    prefix = [names + _PREFIX] if layer.layout.prefix else []
    seen = [(tap.node.name, tap.layout) for tap in taps]
    return Head(body, layer.layout, (*prefix, *crossings), seen), crossings


def _require_tensors(network: nn.Module, images: torch.Tensor, points: Sequence[HookPoint]) -> None:
    """Refuse modules that are never called, or that do not return one tensor."""
    seen: dict[HookPoint, Any] = {}
    with torch.no_grad(), _watching(network, points, seen):
        network(images)
    for point in points:
        if point not in seen:
            raise ExportRefused(
                f"{point} is a module that the network never calls; name one that it does, such "
                "as a module inside of it or around it"
            )
        if not isinstance(seen[point], torch.Tensor):
            raise ExportRefused(
                f"{point} holds a {type(seen[point]).__name__}, not one tensor; name a module "
                "inside of it, or 'input of' the module that takes its maps"
            )


def _require_chain(
    whole: fx.GraphModule, logits: fx.Node, target: _Layer, layers: Sequence[_Layer]
) -> None:
    """Refuse further layers that repeat another, or that are not computed from the first."""
    known = {target.node: target.point}
    first = layers[0]
    after = descendants(whole.graph, {first.node})
    for layer in layers:
        if layer.node in known:
            raise ExportRefused(
                f"the further layer {layer.point} holds the same maps as {known[layer.node]}; "
                "name each layer once, and the target layer not at all"
            )
        known[layer.node] = layer.point
        if layer.node not in after:
            raise ExportRefused(
                f"the further layer {layer.point} is not computed from {first.point}, the first "
                "of them; name layers that follow one another, or one of the two only"
            )
        if logits not in descendants(whole.graph, {layer.node}):
            raise ExportRefused(
                f"the logits do not depend on the further layer {layer.point}; leave it out"
            )
