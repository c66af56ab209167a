"""Where the cells of activation maps look in the image."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from textcam_service.core.types import FloatArray


def grid_shift(model: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Where the maps' cells look, (right, down) of an even grid over the input, pixels.

    The centre of a cell's receptive field: with all kernels made even, the input's gradient is
    as symmetric as the strides and paddings are. The input is larger than usual, so that its
    border does not cut the field; (0, 0) for a network that takes one size only, and for one
    with layer norms (ConvNeXt, Swin), which leave nothing but rounding noise of channels made
    even. Their strides are kernels as wide as they are long, which shift nothing.

    Args:
        model: Images (N, 3, h, w) -> logits and activation maps (N, D, H, W).
        images: Of the usual size.
    """
    if any(isinstance(module, nn.LayerNorm) for module in model.modules()):
        return 0.0, 0.0
    even = copy.deepcopy(model)
    with torch.no_grad():
        for module in even.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            for name, child in module.named_children():
                if isinstance(child, nn.MaxPool2d):  # all ties would go to its first pixel
                    pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                    setattr(module, name, pool)
    height, width = 3 * images.shape[2], 3 * images.shape[3]
    # So small that activations are linear, however often residuals double it.
    seen = torch.full((1, 3, height, width), 1e-6, requires_grad=True)
    try:
        maps = even(seen)[1]
    except (RuntimeError, AssertionError):
        return 0.0, 0.0
    rows, columns = maps.shape[2:]
    (gradient,) = torch.autograd.grad(maps[0, :, rows // 2, columns // 2].sum(), seen)
    mass = gradient.abs().sum(dim=(0, 1)).double().numpy()
    right = _centre(mass.sum(axis=0)) - (columns // 2 + 0.5) * width / columns
    down = _centre(mass.sum(axis=1)) - (rows // 2 + 0.5) * height / rows
    return round(right * 4) / 4, round(down * 4) / 4


def _centre(mass: FloatArray) -> float:
    """Centre of mass along a line of pixels; its middle where there is no mass."""
    total = float(mass.sum())
    if not total > 0:
        return len(mass) / 2
    return float((mass * (np.arange(len(mass)) + 0.5)).sum() / total)
