"""Cutting a network at its target layer: image -> maps -> logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from textcam_service.errors import ExportRefused

aten = torch.ops.aten
_MAX_PREFIX = 16  # class, distillation and register tokens
_MAX_CONTEXTS = 8
# Of their tensor argument they take the type only.
_LIKE = {aten.new_zeros.default, aten.new_ones.default, aten.new_full.default}

Argument: TypeAlias = Any


@dataclass(frozen=True)
class Place:
    """Where a tensor is seen: at the output of a module, or at its input."""

    name: str
    at_input: bool = False

    def __str__(self) -> str:
        return f"input of {self.name}" if self.at_input else self.name

    @staticmethod
    def parse(text: str) -> Place:
        """Read a place as it prints itself."""
        name = text.removeprefix("input of ")
        return Place(name, at_input=name != text)

    def pick(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """The tensor, out of a forward hook's arguments."""
        return (inputs[0] if inputs else None) if self.at_input else output


@dataclass(frozen=True)
class Layout:
    """How a tensor holds activation maps.

    Attributes:
        kind: "NCHW", "NHWC" or "tokens" (N, prefix + H W, D).
        channels: D.
        height: H.
        width: W.
        prefix: Tokens before the grid's: class, distillation, registers.
    """

    kind: str
    channels: int
    height: int
    width: int
    prefix: int = 0

    @staticmethod
    def of(shape: Sequence[int], image: Sequence[int]) -> Layout | None:
        """Guess a tensor's layout; None: it holds no maps of more than one cell.

        Args:
            shape: Of the tensor, batch first.
            image: (height, width) of the network's input; a grid has its proportions.
        """
        ratio = image[0] / image[1]
        if len(shape) == 4:
            _, a, b, c = shape
            if b * c > 1 and math.isclose(b / c, ratio, rel_tol=0.2):
                return Layout("NCHW", a, b, c)
            if a * b > 1 and math.isclose(a / b, ratio, rel_tol=0.2):
                return Layout("NHWC", c, a, b)
        if len(shape) == 3:
            _, tokens, channels = shape
            height = round(math.sqrt(tokens * ratio))
            for rows in (height, height - 1):
                columns = round(rows / ratio)
                if rows * columns > 1 and 0 <= tokens - rows * columns <= _MAX_PREFIX:
                    return Layout("tokens", channels, rows, columns, tokens - rows * columns)
        return None

    def maps(self, tensor: torch.Tensor) -> torch.Tensor:
        """As (N, D, H, W)."""
        if self.kind == "NHWC":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            grid = tensor[:, self.prefix :].transpose(1, 2)
            return grid.reshape(-1, self.channels, self.height, self.width)
        return tensor

    def whole(self, maps: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """The tensor back from its maps and prefix (N, P, D)."""
        if self.kind == "NHWC":
            return maps.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            grid = maps.flatten(2).transpose(1, 2)
            return grid if prefix is None else torch.cat([prefix, grid], dim=1)
        return maps


class WithTaps(nn.Module):
    """The network with tensors of the given places as further outputs."""

    def __init__(self, network: nn.Module, places: Sequence[Place]) -> None:
        super().__init__()
        self.network = network
        self._places = tuple(places)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images (N, 3, h, w) to logits (N, C) and the places' tensors."""
        seen: dict[Place, torch.Tensor] = {}  # a module may be called often: the last call counts

        def keep(place: Place) -> Any:
            return lambda _, inputs, output: seen.__setitem__(place, place.pick(inputs, output))

        hooks = [
            self.network.get_submodule(place.name).register_forward_hook(keep(place))
            for place in self._places
        ]
        try:
            logits = self.network(image)
        finally:
            for hook in hooks:
                hook.remove()
        return (logits, *(seen[place] for place in self._places))


class Trunk(nn.Module):
    """The graph of the image's part: all that backbone.onnx answers, in its order."""

    def __init__(self, body: fx.GraphModule, layouts: Sequence[Layout]) -> None:
        super().__init__()
        self._body, self._layouts = body, tuple(layouts)

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
        return (logits, *maps, *prefixes, *crossings)


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
class Cut:
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
    layers: tuple[Place, ...]


def cut(
    network: nn.Module, images: torch.Tensor, place: Place, further: Sequence[Place] = ()
) -> Cut:
    """Cut a network at a place.

    Args:
        network: In evaluation mode.
        images: (N >= 2, 3, h, w) to trace it with.
        place: Of the target layer.
        further: Other layers whose maps and gradients are wanted.

    Raises:
        ExportRefused: A place holds no maps, or too much of the image goes around it.
    """
    whole = _functional(WithTaps(network, (place, *further)), images)
    output = next(node for node in whole.graph.nodes if node.op == "output")
    logits, target, *others = output.args[0]
    order = list(whole.graph.nodes).index
    layers = sorted(zip(others, further, strict=True), key=lambda layer: order(layer[0]))
    size = images.shape[2:]
    layout = _layout(place, target, size)
    taps = [(node, _layout(name, node, size)) for node, name in layers]
    body, crossing = _head_of(whole, target, logits, place)
    crossings = {f"context_{index}": node for index, node in enumerate(crossing)}
    head = Head(body, layout, (*(["prefix"] if layout.prefix else []), *crossings))
    layers_head = None
    if taps:
        start, first = taps[0]
        body, crossing = _head_of(whole, start, logits, layers[0][1])
        named = {f"layer_context_{index}": node for index, node in enumerate(crossing)}
        prefix = ["layer_prefix"] if first.prefix else []
        seen = [(node.name, own) for node, own in taps[1:]]
        layers_head = Head(body, first, (*prefix, *named), seen)
        crossings |= named
    output.args = ((logits, target, *(node for node, _ in taps), *crossings.values()),)
    whole.graph.set_codegen(fx.graph.CodeGen())  # the exporter's counts the outputs
    whole.recompile()
    trunk = Trunk(whole, [layout, *(own for _, own in taps)])
    prefixes = [name for name in ("prefix", "layer_prefix") if _takes(name, head, layers_head)]
    outputs = (*(f"layer_{index}" for index in range(len(taps))), *prefixes, *crossings)
    return Cut(trunk, outputs, head, layers_head, tuple(name for _, name in layers))


def _takes(name: str, *heads: Head | None) -> bool:
    return any(head is not None and name in head.contexts for head in heads)


def _functional(model: nn.Module, images: torch.Tensor) -> fx.GraphModule:
    """The network's graph of ATen operations without mutation, the batch free."""
    free = {"image": {0: torch.export.Dim.DYNAMIC}}
    try:
        program = torch.export.export(model, (images,), dynamic_shapes=free, strict=False)
        module = program.run_decompositions({}).module()
    except Exception as error:  # whatever tracing may meet in a foreign network
        raise ExportRefused(
            f"torch.export cannot trace the network with a free batch size: {error}; where its "
            "code asks for the batch's size, x.shape[0] keeps it free, len(x) does not"
        ) from error
    assert isinstance(module, fx.GraphModule)  # noqa: S101 - torch says so
    return module


def _layout(place: Place, node: fx.Node, size: Sequence[int]) -> Layout:
    shape = [-1, *(int(extent) for extent in node.meta["val"].shape[1:])]
    layout = Layout.of(shape, size)
    if layout is None:
        raise ExportRefused(
            f"{place} has shape {tuple(shape[1:])}: no maps of more than one cell, nor tokens"
        )
    return layout


def _head_of(
    whole: fx.GraphModule, start: fx.Node, logits: fx.Node, place: Place
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The graph from `start` to `logits`, and what else of the image it takes."""
    seen = _reached(whole.graph, {n for n in whole.graph.nodes if n.op == "placeholder"})
    after = _reached(whole.graph, {start})
    if logits not in after:
        raise ExportRefused(f"the logits do not depend on {place}; choose another target layer")
    needed: set[fx.Node] = set()
    found: set[fx.Node] = set()
    waiting = [logits]
    while waiting:
        node = waiting.pop()
        if node is start or node in needed or node in found:
            continue
        if node in seen and node not in after:
            found.add(node)
            continue
        needed.add(node)
        waiting += [] if _is_size(node) else _inputs(node)
    if len(found) > _MAX_CONTEXTS:
        raise ExportRefused(
            f"{len(found)} tensors of the image go around {place} to the head; cut where all of "
            "the network passes, as at the output of a block"
        )
    crossing = [node for node in whole.graph.nodes if node in found]
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in (start, *crossing)}
    for node in whole.graph.nodes:
        if node not in needed:
            continue
        if _is_size(node) and node not in after:
            # Of the image only the batch's size is free.
            copies[node] = graph.call_function(aten.sym_size.int, (copies[start], 0))
        else:
            copies[node] = graph.node_copy(node, lambda n: copies.get(n, copies[start]))
    graph.output(copies[logits])
    return fx.GraphModule(whole, graph), crossing


def _reached(graph: fx.Graph, starts: set[fx.Node]) -> set[fx.Node]:
    """All nodes whose values depend on the starts' values, not only on their sizes."""
    found = set(starts)
    for node in graph.nodes:
        if not _is_size(node) and any(source in found for source in _inputs(node)):
            found.add(node)
    return found


def _is_size(node: fx.Node) -> bool:
    return node.target is aten.sym_size.int


def _inputs(node: fx.Node) -> list[fx.Node]:
    skipped = node.args[0] if node.target in _LIKE else None
    return [source for source in node.all_input_nodes if source is not skipped]
