"""Networks whose tokens stand one window after the other, and what their maps' cells see."""

import numpy as np
import torch
from textcam_service.core.types import Preprocessing
from textcam_service.offline.networks.network import Network
from torch import nn

SIZE = Preprocessing(32, 32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Windows(nn.Module):
    """Maps to tokens (N, H W, D), those of one window of 4 x 4 after those of another."""

    def forward(self, maps):
        count, channels, height, width = maps.shape
        grid = maps.reshape(count, channels, height // 4, 4, width // 4, 4)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, height * width, channels)


class Attention(nn.Module):
    """Attention of all tokens to all, around which they go too."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)

    def forward(self, tokens):
        query, key, value = self.qkv(self.norm(tokens)).unsqueeze(1).chunk(3, dim=-1)
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return tokens + found.squeeze(1)


class Mean(nn.Module):
    def forward(self, tokens):
        return tokens.tanh().mean(1)


def windowed(*, attends=False):
    """8 x 8 tokens of 4 x 4 pixels: layer "4" and, in order, layer "1"."""
    torch.manual_seed(0)
    body = (nn.Linear(16, 16), Attention(16) if attends else nn.ReLU())
    module = nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), nn.ReLU(), Windows(), *body, Mean(), nn.Linear(16, 3)
    )
    return Network("windowed", module.eval().requires_grad_(False), SIZE, tuple("abc"))


def cells_in_place(maps_of, cells=8, side=4):
    """Count the cells whose own pixels change them the most; `maps_of`: images to (N, D, H, W)."""
    grey = np.zeros((1, 3, side * cells, side * cells), np.float32)
    noise = np.random.default_rng(0).normal(size=(3, side, side))
    right = 0
    for row, column in np.ndindex(cells, cells):
        shown = grey.copy()
        own = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        shown[(0, slice(None), *own)] = noise
        moved = np.abs(maps_of(shown) - maps_of(grey)).sum(axis=(0, 1))
        right += np.unravel_index(moved.argmax(), moved.shape) == (row, column)
    return right
