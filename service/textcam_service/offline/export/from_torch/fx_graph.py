"""Graph of a network's ATen operations, and its part from a tensor to the logits."""

from __future__ import annotations

import torch
from torch import fx, nn

from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.translatable import Translatable

aten = torch.ops.aten
_MAX_CONTEXTS = 8
# Operations that take only the type of their tensor argument.
_LIKE = {aten.new_zeros.default, aten.new_ones.default, aten.new_full.default}


def trace(model: nn.Module, images: torch.Tensor) -> fx.GraphModule:
    """Trace a network to a graph of ATen operations without mutation, the batch free.

    Raises:
        ExportRefused: torch.export cannot trace it so.
    """
    free = {"image": {0: torch.export.Dim.DYNAMIC}}
    try:
        with Translatable():
            program = torch.export.export(model, (images,), dynamic_shapes=free, strict=False)
        module = program.run_decompositions({}).module()
    except Exception as error:  # any that tracing may meet in a foreign network
        raise ExportRefused(
            f"torch.export cannot trace the network with a free batch size: {error}; where its "
            "code asks for the batch's size, x.shape[0] keeps it free, len(x) does not"
        ) from error
    assert isinstance(module, fx.GraphModule)  # noqa: S101 - torch says so
    return module


def extract_head(
    whole: fx.GraphModule, start: fx.Node, logits: fx.Node, name: str
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """Extract the graph from `start` to `logits`, and find what else of the image it takes.

    Args:
        whole: The network's graph.
        start: The layer's tensor.
        logits: The logits.
        name: The layer's name, for errors.

    Returns:
        The graph (start, *crossings) -> logits; and the crossings: nodes of `whole` that depend
        on the image and go around the layer.

    Raises:
        ExportRefused: The logits do not depend on the layer, or too many tensors go around it.
    """
    seen = descendants(whole.graph, {n for n in whole.graph.nodes if n.op == "placeholder"})
    after = descendants(whole.graph, {start})
    if logits not in after:
        raise ExportRefused(f"the logits do not depend on {name}; choose another target layer")
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
            f"{len(found)} tensors of the image go around {name} to the head; cut where all of "
            "the network passes, as at the output of a block"
        )
    crossing = [node for node in whole.graph.nodes if node in found]
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in (start, *crossing)}
    for node in whole.graph.nodes:
        if node not in needed:
            continue
        if _is_size(node) and node not in after:
            # Only the batch's size is free.
            copies[node] = graph.call_function(aten.sym_size.int, (copies[start], 0))
        else:
            copies[node] = graph.node_copy(node, lambda n: copies.get(n, copies[start]))
    graph.output(copies[logits])
    return fx.GraphModule(whole, graph), crossing


def descendants(graph: fx.Graph, starts: set[fx.Node]) -> set[fx.Node]:
    """Return all nodes that depend on the starts' values, not only on their sizes."""
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
