"""Embeddings of parts of a picture, out of an image tower's dense map in one pass.

Each tower pools its last map as for the whole picture, but over the part's cells only. So a part
that is the whole picture gets exactly the tower's own embedding. Nothing is cut off before the
pooling: cells see all of their receptive field, also beyond the part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from textcam_service.core.types import Float32Array, Float64Array, FloatArray
from textcam_service.offline.embedders.base import Picture, as_pillow
from textcam_service.offline.embedders.translated import TranslatedNetwork
from textcam_service.offline.networks.cell_offsets import cell_offset, noise_images


class Pooling(Protocol):
    """Dense map of a tower, and the tower's pooling of it.

    Attributes:
        even: True if its cells lie on an even grid, as tokens do.
    """

    even: bool

    def maps(self, pixels: Tensor) -> Tensor:
        """Compute what is pooled, (N, ...), of pictures (N, 3, h, w)."""

    def grid(self, maps: Tensor) -> tuple[int, int]:
        """Return the rows and columns of its cells."""

    def pool(self, one: Tensor, weights: Tensor) -> Tensor:
        """Pool one picture's map by P parts' shares of its cells (P, H, W): (P, E), not unit."""


class DenseTower:
    """An image tower that embeds parts of pictures.

    Attributes:
        size: (height, width) of its input, pixels.
    """

    def __init__(
        self, pooling: Pooling, size: tuple[int, int], network: TranslatedNetwork | None = None
    ) -> None:
        """Take a tower.

        Args:
            pooling: Map and pooling.
            size: (height, width) of its input, pixels.
            network: Network from pictures to the map; None: torch computes it.
        """
        self._pooling, self.size, self._network = pooling, size, network

    def translated(self, name: str, digest: object) -> DenseTower:
        """Return the tower with its map computed by onnxruntime; see TranslatedNetwork.

        Args:
            name: Name for people, as "the image tower of ...".
            digest: Identity of the tower's weights and computation, as JSON.
        """
        example = partial(example_images, *self.size)
        network = TranslatedNetwork(name, [digest, "map"], _Maps(self._pooling), example)
        return DenseTower(self._pooling, self.size, network)

    @cached_property
    def shift(self) -> tuple[float, float]:
        """Offset (right, down) of its cells from an even grid, pixels."""
        if self._pooling.even:
            return 0.0, 0.0
        weight = next(_Maps(self._pooling).parameters())

        def run(images: Float32Array) -> Float32Array:
            maps = self._maps(torch.from_numpy(images).to(weight))
            return np.asarray(maps.float().cpu().numpy())

        with torch.inference_mode():
            return cell_offset(run, *self.size)

    def embed(self, pixels: Tensor, parts: Sequence[FloatArray]) -> Tensor:
        """Embed parts of pictures.

        Args:
            pixels: (N, 3, h, w) of the tower's size, normalised.
            parts: Per picture (P, 4): left, top, right, bottom, as shares of its sides.

        Returns:
            (sum of P, E), not normalised.
        """
        maps = self._maps(pixels)
        grid = self._pooling.grid(maps)
        found = [
            self._pooling.pool(one, self._weights(own, grid).to(maps))
            for one, own in zip(maps, parts, strict=True)
        ]
        return torch.cat(found)

    def _maps(self, pixels: Tensor) -> Tensor:
        if self._network is None:
            return self._pooling.maps(pixels)
        return torch.from_numpy(self._network(pixels.cpu().numpy())).to(pixels.device)

    def _weights(self, parts: FloatArray, grid: tuple[int, int]) -> Tensor:
        height, width = self.size
        columns = cell_shares(parts[:, 0], parts[:, 2], grid[1], self.shift[0] / width)
        rows = cell_shares(parts[:, 1], parts[:, 3], grid[0], self.shift[1] / height)
        return torch.from_numpy(rows[:, :, None] * columns[:, None, :])


def cell_shares(start: FloatArray, end: FloatArray, cells: int, shift: float) -> Float64Array:
    """Compute how much of each cell along one side belongs to intervals.

    Args:
        start: (P,) starts of the intervals, as shares of the side.
        end: (P,) ends of the intervals. 0 and 1 are the picture's border, to which border cells
            reach.
        cells: Number of cells.
        shift: Offset of the cells from an even grid, as a share of the side.

    Returns:
        (P, cells), 0..1.
    """
    low = np.arange(cells) / cells + shift
    high = low + 1 / cells
    low[0], high[-1] = -np.inf, np.inf
    first = np.where(start <= 0, -np.inf, start)[:, None]
    last = np.where(end >= 1, np.inf, end)[:, None]
    covered = np.minimum(high, last) - np.maximum(low, first)
    return np.asarray(np.clip(covered * cells, 0, 1), np.float64)


def stretched_batches(
    pictures: Sequence[Picture],
    parts: Sequence[FloatArray],
    size: tuple[int, int],
    batch: int = 8,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Iterator[tuple[list[Image.Image], Sequence[FloatArray]]]:
    """Yield pictures stretched to a tower's input, a batch at a time, with their parts.

    Args:
        pictures: N upright RGB images.
        parts: Per picture, as DenseTower.embed takes them.
        size: (height, width) of the input, pixels.
        batch: Maximum number of pictures.
        resampling: Filter of the tower's own preprocessing.
    """
    height, width = size
    for start in range(0, len(pictures), batch):
        some = slice(start, start + batch)
        stretched = [
            as_pillow(picture).resize((width, height), resampling) for picture in pictures[some]
        ]
        yield stretched, parts[some]


def part_means(one: Tensor, weights: Tensor) -> Tensor:
    """Average a map (C, H, W) over parts' cells (P, H, W): (P, C)."""
    shares = weights / weights.sum(dim=(1, 2), keepdim=True)
    return torch.einsum("chw,phw->pc", one, shares)


def unit_rows(vectors: Tensor) -> Float32Array:
    """Normalise rows (P, E) to unit vectors."""
    return np.asarray(nn.functional.normalize(vectors, dim=1).cpu().numpy(), np.float32)


def example_images(height: int, width: int) -> Float32Array:
    """Draw three images (3, 3, height, width) on which a tower's translation is compared."""
    return noise_images(np.random.default_rng(0), 3, height, width)


class _Maps(nn.Module):
    """The part of a tower that computes its map."""

    def __init__(self, pooling: Any) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.pooling.maps(pixels)
        return maps
