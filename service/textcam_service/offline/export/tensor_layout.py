"""Points of a network where activation maps are taken, and how a tensor holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_MAX_PREFIX = 16  # class, distillation and register tokens


@dataclass(frozen=True)
class HookPoint:
    """Point where a tensor is taken: the output of a module, or its input."""

    name: str
    at_input: bool = False

    def __str__(self) -> str:
        return f"input of {self.name}" if self.at_input else self.name

    @staticmethod
    def parse(text: str) -> HookPoint:
        """Read a hook point as it prints itself: "NAME" or "input of NAME"."""
        name = text.removeprefix("input of ")
        return HookPoint(name, at_input=name != text)

    def pick(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return the tensor, from a forward hook's arguments."""
        return (inputs[0] if inputs else None) if self.at_input else output


@dataclass(frozen=True)
class Layout:
    """Layout of activation maps in a tensor.

    Attributes:
        kind: "NCHW", "NHWC" or "tokens" (N, prefix + H W, D).
        channels: D.
        height: H; on a graph the number of its vertices, W being 1.
        width: W.
        prefix: Tokens before the grid's: class, distillation, registers.
    """

    kind: str
    channels: int
    height: int
    width: int
    prefix: int = 0

    @staticmethod
    def of(
        shape: Sequence[int], image: Sequence[int], vertices: int = 0, *, last: bool = False
    ) -> Layout | None:
        """Guess a tensor's layout; None if it holds no maps of more than one cell.

        Args:
            shape: The tensor's, batch first.
            image: (height, width) of the network's input; a grid has its proportions.
            vertices: V of a graph, in place of a grid.
            last: The channels of a grid are known to come last.
        """
        if vertices:
            return Layout._on_vertices(shape, vertices)
        ratio = image[0] / image[1]
        if len(shape) == 4:
            _, a, b, c = shape
            found = {"NCHW": (a, b, c), "NHWC": (c, a, b)}
            fits = [
                (abs(math.log(height / width / ratio)), kind)
                for kind, (_, height, width) in found.items()
                if height * width > 1 and math.isclose(height / width, ratio, rel_tol=0.2)
                if kind == "NHWC" or not last
            ]
            if fits:  # (14, 14, 16) is nearer to a square image's with its channels last
                _, kind = min(fits)
                return Layout(kind, *found[kind])
        if len(shape) == 3:
            _, tokens, channels = shape
            height = round(math.sqrt(tokens * ratio))
            for rows in (height, height - 1):
                columns = round(rows / ratio)
                if rows * columns > 1 and 0 <= tokens - rows * columns <= _MAX_PREFIX:
                    return Layout("tokens", channels, rows, columns, tokens - rows * columns)
        return None

    @staticmethod
    def _on_vertices(shape: Sequence[int], vertices: int) -> Layout | None:
        """Match (N, D, V, 1), (N, V, 1, D), or (N, V, D) with or without a prefix."""
        if len(shape) == 4 and tuple(shape[2:]) == (vertices, 1):
            return Layout("NCHW", shape[1], vertices, 1)
        if len(shape) == 4 and tuple(shape[1:3]) == (vertices, 1):
            return Layout("NHWC", shape[3], vertices, 1)
        if len(shape) == 3 and 0 <= shape[1] - vertices <= _MAX_PREFIX:
            return Layout("tokens", shape[2], vertices, 1, shape[1] - vertices)
        return None

    def maps(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the activation maps (N, D, H, W) of a tensor."""
        if self.kind == "NHWC":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            grid = tensor[:, self.prefix :].transpose(1, 2)
            return grid.reshape(-1, self.channels, self.height, self.width)
        return tensor

    def tensor_from(self, maps: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """Rebuild the tensor from its maps and prefix (N, P, D)."""
        if self.kind == "NHWC":
            return maps.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            grid = maps.flatten(2).transpose(1, 2)
            return grid if prefix is None else torch.cat([prefix, grid], dim=1)
        return maps


@dataclass(frozen=True)
class VertexSource:
    """Positions of a vision graph network's vertices; see export.from_torch.vertices.

    Attributes:
        count: V.
        positions: (V, 2) x and y in pixels of the input, the same for each image; None: the
            network computes them.
        point: Hook point at which the network computes them, (N, V, 2).
    """

    count: int
    positions: torch.Tensor | None = None
    point: HookPoint | None = None
