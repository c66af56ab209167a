"""Pooling of open_clip's image towers, by which they embed parts of pictures; see dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from textcam_service.errors import EmbedderError
from textcam_service.offline.embedders.dense import DenseTower, Pooling, part_means

_ALIKE = 0.9999  # cosine of the whole as a part with the tower's own embedding


def dense_tower(visual: Any, name: str) -> DenseTower:
    """Return the tower behind an open_clip model's `visual`, on its device.

    Raises:
        EmbedderError: This package cannot pool as the tower does, or it has no dense map.
    """
    kinds: dict[type, Callable[[Any], Pooling]] = {
        TimmModel: _Convolutional,
        ModifiedResNet: _AttentionPooled,
        VisionTransformer: _Token,
    }
    pooling = kinds.get(type(visual))
    try:
        if pooling is None:
            raise TypeError(f"{type(visual).__name__} is not known")
        size = visual.image_size
        tower = DenseTower(
            pooling(visual), (size, size) if isinstance(size, int) else (size[0], size[1])
        )
        _require_own_embedding(tower, visual)
    except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise EmbedderError(
            f"the image tower of {name} gives one embedding per picture and none of its parts "
            f"({error}); --regions crop needs none"
        ) from error
    return tower


def _require_own_embedding(tower: DenseTower, visual: Any) -> None:
    """Require that the whole picture as a part has the tower's own embedding.

    Raises:
        ValueError: The embeddings differ.
    """
    weight = next(visual.parameters())
    generator = torch.Generator().manual_seed(0)
    # Noise that grows to the right, because equal cells would hide how they are pooled.
    pixels = torch.randn(1, 3, *tower.size, generator=generator) + 1
    pixels = (pixels * torch.linspace(0, 3, tower.size[1])).to(weight)
    with torch.inference_mode():
        part = tower.embed(pixels, [np.array([[0.0, 0.0, 1.0, 1.0]])])
        own = visual(pixels)
        own = own[0] if isinstance(own, tuple) else own
        likeness = float(nn.functional.cosine_similarity(part, own).min())
    if not likeness > _ALIKE:
        raise ValueError(f"pooled over all of its map it has a cosine of {likeness:.3f} with it")


class _Convolutional(nn.Module):
    """Pooling of timm's trunks with a map (N, C, H, W) and average pooling."""

    even = False

    def __init__(self, visual: TimmModel) -> None:
        super().__init__()
        if "pool" in dict(visual.head.named_children()):
            raise ValueError("its head pools by attention")
        self.trunk: Any = visual.trunk
        self._head = visual.head

    def maps(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.trunk.forward_features(pixels)
        if maps.ndim != 4:
            raise ValueError(f"its features have the shape {tuple(maps.shape)}, and are no map")
        return maps

    def grid(self, maps: Tensor) -> tuple[int, int]:
        return maps.shape[2], maps.shape[3]

    def pool(self, one: Tensor, weights: Tensor) -> Tensor:
        means = part_means(one, weights)[:, :, None, None]
        pooled: Tensor = self._head(self.trunk.forward_head(means))
        return pooled


class _AttentionPooled(nn.Module):
    """Pooling of CLIP's own ResNets: a mean token attends to the cells, here the part's only."""

    even = False

    def __init__(self, visual: ModifiedResNet) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(getattr(visual, f"{kind}{index}") for index in (1, 2, 3) for kind in _STEM),
            visual.avgpool,
            *(getattr(visual, f"layer{index}") for index in (1, 2, 3, 4)),
        )
        self._attention: Any = visual.attnpool

    def maps(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.trunk(pixels)
        return maps

    def grid(self, maps: Tensor) -> tuple[int, int]:
        return maps.shape[2], maps.shape[3]

    def pool(self, one: Tensor, weights: Tensor) -> Tensor:
        pool = self._attention
        cells, shares = one.flatten(1).T, weights.flatten(1)  # (HW, C), (P, HW)
        mean = shares @ cells / shares.sum(dim=1, keepdim=True)
        known = cells[:, None].expand(-1, len(shares), -1)
        tokens = torch.cat([mean[None], known]) + pool.positional_embedding[:, None]
        pooled, _ = nn.functional.multi_head_attention_forward(
            query=tokens[:1],
            key=tokens,
            value=tokens,
            embed_dim_to_check=tokens.shape[-1],
            num_heads=pool.num_heads,
            q_proj_weight=pool.q_proj.weight,
            k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight,
            in_proj_weight=None,
            in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=pool.c_proj.weight,
            out_proj_bias=pool.c_proj.bias,
            use_separate_proj_weight=True,
            training=False,
            need_weights=False,
            attn_mask=_share_mask(shares, pool.num_heads),
        )
        return pooled[0]


_STEM = ("conv", "bn", "act")


class _Token(nn.Module):
    """Pooling by a class token: in the last block it attends to the part's patches only."""

    even = True

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self._visual: Any = visual
        self._last: Any = visual.transformer.resblocks[-1]
        if type(self._last) is not ResidualAttentionBlock or visual.attn_pool is not None:
            raise ValueError("its last block or its pooling is not the usual one")

    def maps(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self._visual._embeds(pixels)
        for block in self._visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
        return tokens

    def grid(self, maps: Tensor) -> tuple[int, int]:
        rows = int(self._visual.grid_size[0])
        return rows, (maps.shape[1] - 1) // rows

    def pool(self, one: Tensor, weights: Tensor) -> Tensor:
        block, parts = self._last, len(weights)
        known = block.ln_1(one)[None].expand(parts, -1, -1)
        answer, _ = block.attn(
            known[:, :1],
            known,
            known,
            need_weights=False,
            attn_mask=_share_mask(weights.flatten(1), block.attn.num_heads),
        )
        token = one[:1].expand(parts, -1)[:, None] + block.ls_1(answer)
        token = token + block.ls_2(block.mlp(block.ln_2(token)))
        pooled: Tensor = self._visual._pool(token)[0]
        return pooled if self._visual.proj is None else pooled @ self._visual.proj


def _share_mask(shares: Tensor, heads: int) -> Tensor:
    """Return the log of shares (P, L) behind a 0 for the query token: (P * heads, 1, 1 + L)."""
    mask = nn.functional.pad(shares.clamp_min(0).log(), (1, 0))
    return mask.repeat_interleave(heads, dim=0)[:, None]
