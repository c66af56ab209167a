"""Alignment of an exported backbone's activation maps with its input."""

from __future__ import annotations

import numpy as np

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT
from textcam_service.core.types import Float32Array, IntArray, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.cell_order import cell_order, misplaced_share
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.networks.cell_offsets import MapsOf, cell_offset

_MAX_MISPLACED = 0.25  # share of cells


def backbone_order(graph: bytes, maps: str, layer: str, size: Preprocessing) -> IntArray | None:
    """Find the order of a layer's cells where they do not stand where they see the image.

    Args:
        graph: INPUT -> maps and others.
        maps: Name of the layer's maps in the graph.
        layer: Name of the layer.
        size: Size of its input.

    Returns:
        (H, W) indices of the cells that belong there; None: they stand there, but for less than a
        quarter of them.

    Raises:
        ExportRefused: They stand elsewhere, in no order that can be found.
    """
    run = _maps_of(graph, maps)
    share = misplaced_share(run, size.height, size.width)
    if share <= _MAX_MISPLACED:
        return None
    order = cell_order(run, size.height, size.width)
    if order is None:
        raise ExportRefused(
            f"the cells of {layer!r} do not stand row by row: {share:.0%} of those tried see "
            "another part of the image than their place shows, in no order that can be found; "
            "choose a layer before or after it (--target-layer, or --layer for a further one)"
        )
    return order


def backbone_offset(
    graph: bytes, layout: Layout, size: Preprocessing, vertices: int = 0
) -> tuple[float, float]:
    """Measure by how much a backbone's cells lie off an even grid: (right, down), pixels.

    Tokens, each its own patch, and vertices have no offset.

    Args:
        graph: INPUT -> ACTIVATION_MAPS and others.
        layout: Layout of the maps in the target layer.
        size: Size of its input.
        vertices: See BackboneManifest.vertices.
    """
    if vertices or layout.kind == "tokens":
        return 0.0, 0.0
    return cell_offset(_maps_of(graph, ACTIVATION_MAPS), size.height, size.width)


def _maps_of(graph: bytes, name: str) -> MapsOf:
    """Wrap a graph as a function of images (N, 3, h, w) to maps (N, D, H, W)."""
    session = cpu_session(graph)

    def run(images: Float32Array) -> Float32Array:
        (maps,) = session.run([name], {INPUT: images})
        return np.asarray(maps)

    return run
