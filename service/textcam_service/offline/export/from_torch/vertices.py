"""Vertices of a vision graph network: their number, and where the network says they lie."""

from __future__ import annotations

import torch

from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_torch.split import WithHooks
from textcam_service.offline.export.tensor_layout import HookPoint, VertexSource
from textcam_service.offline.networks.network import Network


def vertex_source(network: Network, images: torch.Tensor) -> VertexSource | None:
    """Find and check a network's vertices; None if its maps lie on a grid.

    Args:
        network: Its `vertex_positions` say where they are.
        images: Sample images (N, 3, h, w).

    Raises:
        ExportRefused: There is no such module, or the values are no positions in the input.
    """
    stated = network.vertex_positions
    if stated is None:
        return None
    if isinstance(stated, torch.Tensor):
        positions = stated.detach().float().cpu()
        source = VertexSource(positions.shape[0] if positions.ndim else 0, positions=positions)
    else:
        point = HookPoint.parse(stated)
        if point.name not in dict(network.module.named_modules()):
            raise ExportRefused(
                f"{network.name}: its `vertex_positions` name {stated!r}, which is no module of "
                "it; name the one that answers them, or give a tensor (V, 2)"
            )
        try:
            with torch.inference_mode():
                _, positions = WithHooks(network.module, [point])(images)
        except KeyError as error:
            raise ExportRefused(
                f"{network.name}: its `vertex_positions` name {stated!r}, a module that is never "
                "called"
            ) from error
        _require_positions(network, positions, 3)
        source = VertexSource(positions.shape[1], point=point)
        positions = positions.flatten(0, 1)
    _require_positions(network, positions, 2)
    return source


def _require_positions(network: Network, positions: object, axes: int) -> None:
    if isinstance(positions, torch.Tensor) and positions.ndim == axes:
        height, width = network.preprocessing.height, network.preprocessing.width
        inside = positions.shape[-2] > 1 and positions.shape[-1] == 2
        limits = torch.tensor([width, height])
        # Written so that a NaN is refused too.
        if inside and bool(((positions >= 0) & (positions <= limits)).all()):
            return
    raise ExportRefused(
        f"{network.name}: its `vertex_positions` are no x and y, in pixels of the input, of two or "
        f"more vertices; give {'(V, 2)' if axes == 2 else '(N, V, 2)'} within 0..width, 0..height"
    )
