"""Operations that do not export, as others that do, while a network is traced."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Tensor = torch.Tensor


class Translatable(TorchFunctionMode):
    """Mode in which calls of some functions are computed by other operations.

    These are attention over tensors of other than 4 dimensions, and maxima over whole maps or
    their bins. ONNX's exporter takes neither, and a maximum's place has no gradient there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one call; called by torch."""
        given = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention and args[0].ndim != 4:
            return attend(*args, **given)
        if func in _AXES:
            return _pooled(func, *args, **given)
        return func(*args, **given)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - of torch's signature; the network evaluates
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention over tensors (..., T, D), as torch's function of these arguments."""
    if enable_gqa:
        raise NotImplementedError("aten.scaled_dot_product_attention, grouped")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    found: Tensor = scores.softmax(-1) @ value
    return found


def _pooled(
    func: Callable[..., Any],
    input: Tensor,  # noqa: A002 - torch's name
    output_size: int | Sequence[int | None],
    return_indices: bool = False,
) -> Any:
    """Pool over one or two axes; torch's own function where the places are asked for too."""
    if return_indices:
        return func(input, output_size, return_indices=True)
    if _AXES[func] == 1:
        (length,) = (output_size,) if isinstance(output_size, int) else output_size
        return adaptive_maximum(input.unsqueeze(-2), (1, length)).squeeze(-2)
    size = (output_size,) * 2 if isinstance(output_size, int) else output_size
    return adaptive_maximum(input, size)


def adaptive_maximum(given: Tensor, size: Sequence[int | None]) -> Tensor:
    """Compute adaptive max pooling of maps (..., H, W) to a size of two extents.

    The gradient of each maximum goes to its first place, as that of torch's own does.
    """
    rows, columns = (_bins(*own) for own in zip(given.shape[-2:], size, strict=True))
    found = [
        [_first_maximum(given[..., top:bottom, left:right]) for left, right in columns]
        for top, bottom in rows
    ]
    return torch.stack([torch.stack(row, -1) for row in found], -2)


def _bins(length: int, parts: int | None) -> list[tuple[int, int]]:
    """Return begin and end of each bin of adaptive pooling along an axis."""
    parts = length if parts is None else parts
    return [(part * length // parts, -(-(part + 1) * length // parts)) for part in range(parts)]


def _first_maximum(part: Tensor) -> Tensor:
    """Return the maximum over the last two axes; its gradient goes to its first place."""
    flat = part.flatten(-2)
    place = flat.detach().argmax(-1, keepdim=True)
    return flat.gather(-1, place).squeeze(-1)


_AXES = {functional.adaptive_max_pool1d: 1, functional.adaptive_max_pool2d: 2}
