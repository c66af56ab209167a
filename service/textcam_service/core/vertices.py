"""Activation maps on the vertices of a graph, at positions of their own in the image.

Vision graph networks hold an activation for each of V vertices. Their maps are (D, V, 1) here, one
cell for each vertex, so every method computes vertex by vertex; only what is drawn, or laid over an
image, is placed on a grid first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textcam_service.core.types import Float32Array, Float64Array, FloatArray, Rationale

_FINER = 4  # cells for each vertex, along each side


@dataclass(frozen=True)
class Vertices:
    """Positions of the vertices of one image.

    Attributes:
        positions: (V, 2) x and y in pixels of the network's input, (0, 0) its upper left corner.
        height: Height of the network's input, pixels.
        width: Width of the network's input, pixels.
    """

    positions: FloatArray
    height: int
    width: int

    def place(self, maps: FloatArray) -> Float32Array:
        """Place maps (..., V, 1) on a grid over the network's input: (..., H, W).

        By inverse distances: a cell's value is the mean of all vertices', weighted by
        1 / distance^2 to the cell's centre (Shepard 1968). So a cell with a vertex at its centre
        has its value, no cell exceeds the vertices' range, and sums of maps stay sums. If the
        vertices are unevenly spread, the mean over cells differs from the mean over vertices.
        VS-CAM's paper (arXiv 2209.09104) has vertices on a grid and needs no such rule.
        """
        height, width = drawn_grid(len(self.positions), self.height, self.width)
        x, y = np.asarray(self.positions, np.float64).T
        across = (_cell_centers(width, self.width)[:, None] - x) ** 2
        down = (_cell_centers(height, self.height)[:, None] - y) ** 2
        values = maps[..., 0]
        placed = np.empty((*values.shape[:-1], height, width), np.float32)
        # Row by row: all weights at once, V of each cell, would take 16 V^2 floats.
        for row in range(height):
            # Within a thousandth of a pixel the vertex is all that counts.
            weights = 1 / np.maximum(across + down[row], 1e-6)
            placed[..., row, :] = values @ weights.T / weights.sum(axis=1)
        return placed


def drawn_grid(count: int, height: int, width: int) -> tuple[int, int]:
    """Return (H, W) of the grid on which vertices are drawn, of about square cells.

    The grid is four times as fine as an even grid with one cell per vertex, but no finer than the
    input's pixels.

    Args:
        count: V.
        height: Height of the network's input, pixels.
        width: Width of the network's input, pixels.
    """
    cell = (height * width / count) ** 0.5 / _FINER
    return min(int(np.ceil(height / cell)), height), min(int(np.ceil(width / cell)), width)


def placed(rationale: Rationale, vertices: Vertices) -> Rationale:
    """Place the maps (V, 1) of a rationale on the grid; all else stays."""
    groups = *rationale.groups, rationale.rest
    maps = [rationale.saliency_map, *(group.saliency_map for group in groups)]
    maps += [group.relative_map for group in groups if group.relative_map is not None]
    whole, *parts = vertices.place(np.stack(maps))
    relative = parts[len(groups) :]
    own = [
        replace(
            group,
            saliency_map=part,
            relative_map=None if group.relative_map is None else relative[place],
        )
        for place, (group, part) in enumerate(zip(groups, parts, strict=False))
    ]
    return replace(rationale, saliency_map=whole, groups=tuple(own[:-1]), rest=own[-1])


def _cell_centers(cells: int, pixels: int) -> Float64Array:
    return (np.arange(cells) + 0.5) * pixels / cells
