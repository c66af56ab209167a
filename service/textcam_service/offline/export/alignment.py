"""Alignment of an exported backbone's activation maps with its input."""

from __future__ import annotations

import numpy as np

from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT
from textcam_service.core.types import Float32Array, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.cell_order import misplaced_share
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.networks.cell_offsets import MapsOf, cell_offset

_MAX_MISPLACED = 0.25  # share of cells


def require_order(graph: bytes, target: str, size: Preprocessing) -> None:
    """Refuse a backbone with cells that do not stand where they see the image.

    Args:
        graph: INPUT -> ACTIVATION_MAPS and others.
        target: Name of its target layer.
        size: Size of its input.

    Raises:
        ExportRefused: More than a quarter of the cells see clearly another part of it.
    """
    share = misplaced_share(_maps_of(graph), size.height, size.width)
    if share > _MAX_MISPLACED:
        raise ExportRefused(
            f"the cells of {target!r} do not stand row by row: {share:.0%} of those tried see "
            "another part of the image than their place shows, as tokens sorted by windows or "
            "column by column do; choose a layer before they are sorted so, or one after they are "
            "sorted back, with --target-layer"
        )


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
    return cell_offset(_maps_of(graph), size.height, size.width)


def _maps_of(graph: bytes) -> MapsOf:
    """Wrap a graph as a function of images (N, 3, h, w) to activation maps (N, D, H, W)."""
    session = cpu_session(graph)

    def run(images: Float32Array) -> Float32Array:
        (maps,) = session.run([ACTIVATION_MAPS], {INPUT: images})
        return np.asarray(maps)

    return run
