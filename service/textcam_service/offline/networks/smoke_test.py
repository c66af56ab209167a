"""First run of a torch classifier: modules that return no logits are refused, with a remedy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused

_SUM_TOLERANCE = 1e-4
# Operations with weights, norms, and activations that features pass, but no logits of a last
# convolution.
_CONVOLUTIONS = ("Conv", "MkldnnConv")
_LEARNED = ("Addmm", "Mm", "Bmm", "Linear", "Mkldnn", *_CONVOLUTIONS)
_SMOOTH = ("Hardswish", "Hardtanh", "Silu", "Gelu", "Mish", "Elu", "Softplus")
_NORMS = ("NativeBatchNorm", "CudnnBatchNorm", "NativeLayerNorm", "NativeGroupNorm", "FusedRmsNorm")
# Operations that only change the shape of a sigmoid's output.
_RESHAPES = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Alias", "Clone")


def sample_images(preprocessing: Preprocessing) -> torch.Tensor:
    """Draw network inputs (3, 3, h, w): smooth waves with noise, in normalised pixels' range."""
    height, width = preprocessing.height, preprocessing.width
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 2 * np.pi, (3, 3, 1, 1))
    waves = np.sin(x / 17 + phases) * np.cos(y / 23 + 2 * phases)
    return torch.tensor(waves + rng.normal(0, 0.5, (3, 3, height, width)), dtype=torch.float32)


def check_logits(name: str, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Run a classifier once and check that it returns logits.

    Args:
        name: Name of the network, for errors.
        module: The module, in evaluation mode.
        images: (N, 3, h, w).

    Returns:
        Its logits (N, C).

    Raises:
        ExportRefused: It does not run on the images, or returns no logits of two or more classes.
    """
    if any(isinstance(child, torch.jit.ScriptModule) for child in module.modules()):
        raise ExportRefused(
            f"{name} is a ScriptModule, which cannot be inspected; give the module that it was "
            "made from, or an ONNX file, onnx:FILE"
        )
    try:
        with torch.no_grad():
            answer = _run(module, images)
    except Exception as error:  # of any kind: it is a user's module
        raise ExportRefused(
            f"{name} does not run on images {tuple(images.shape)} of float32 "
            f"({type(error).__name__}: {textwrap.shorten(str(error), 200)}); {_mend(module)}"
        ) from error
    logits = _require_logits(name, answer, len(images))
    if bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < _SUM_TOLERANCE):
        raise ExportRefused(
            f"{name} answers probabilities, but the service takes logits and their softmax "
            "itself; give it without its last softmax"
        )
    if bool(((logits >= 0) & (logits <= 1)).all()) and _ends_in_sigmoid(module, images):
        raise ExportRefused(
            f"{name} ends in a sigmoid, but the service takes logits; give it without its last "
            "sigmoid, and --multi-label if its classes do not exclude each other"
        )
    return logits


def cut_last_sigmoid(module: nn.Module, images: torch.Tensor) -> str:
    """Replace the nn.Sigmoid that a module ends in by nn.Identity, in place.

    Args:
        module: The module, in evaluation mode.
        images: (N, 3, h, w).

    Returns:
        Name of the sigmoid; empty: it ends in none, or uses it elsewhere too.
    """
    given = dict(module.named_modules())
    sigmoids = {name: own for name, own in given.items() if name and isinstance(own, nn.Sigmoid)}
    outputs: list[tuple[str, torch.Tensor]] = []
    hooks = [
        own.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
        for name, own in sigmoids.items()
    ]
    try:
        with torch.no_grad():
            answer = _run(module, images) if sigmoids else None
    except Exception:  # noqa: BLE001 - check_logits runs it too, and says more
        return ""
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs or not isinstance(answer, torch.Tensor):
        return ""
    name, last = outputs[-1]
    same = answer.data_ptr() == last.data_ptr() and answer.numel() == last.numel()
    if not same or sum(used == name for used, _ in outputs) > 1:
        return ""
    parent, _, own = name.rpartition(".")
    setattr(given[parent], own, nn.Identity())
    return name


def require_classifier(name: str, module: nn.Module, images: torch.Tensor) -> None:
    """Refuse a feature extractor, as far as it shows: one without its last, linear layer.

    Raises:
        ExportRefused: Its outputs are an image's embedding.
    """
    answer = _run(module, images.clone().requires_grad_(True).clone())  # it may work in place
    length_1 = bool((answer.norm(dim=1) - 1).abs().max() < _SUM_TOLERANCE)
    if length_1 or not _ends_in_linear_layer(answer.grad_fn):
        fault = "has length 1" if length_1 else "comes from no linear layer"
        raise ExportRefused(
            f"{name} seems to have no classifier: its output of {answer.shape[1]} numbers {fault}, "
            "as an embedding does; give it with its last, linear layer. If the numbers are "
            "classes, name them by --classes FILE"
        )


def _ends_in_linear_layer(step: Any) -> bool:
    """Return False if norms, a sum of convolutions or activations come after what is linear."""
    last, passed, seen, ahead = list[str](), list[str](), set(), [step]
    while ahead:
        step = ahead.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if step.name().startswith((*_LEARNED, *_NORMS)):
            last.append(step.name())
        else:
            passed.append(step.name())
            ahead += [before for before, _ in step.next_functions]
    if not last or not all(name.startswith((*_CONVOLUTIONS, *_NORMS)) for name in last):
        return True
    activated = any(name.startswith(_SMOOTH) for name in passed)
    return len(last) == 1 and last[0].startswith(_CONVOLUTIONS) and not activated


def _run(module: nn.Module, images: torch.Tensor) -> Any:
    # A module compiled now would call no hooks later, and be a single step to autograd.
    with torch.compiler.set_stance("force_eager"):
        return module(images)


def _mend(module: nn.Module) -> str:
    """Say what to give in place of a module that does not run."""
    kinds = {own.dtype for own in module.parameters() if own.is_floating_point()}
    if kinds - {torch.float32}:
        return "give it in float32, by `.float()`"
    first = next((child for child in module.modules() if isinstance(child, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        return (
            f"its first convolution has in_channels={first.in_channels}; give a network with 3 "
            "input channels, as the service's images have"
        )
    return "give a module that takes such images and nothing else; its `preprocessing` says h, w"


def _require_logits(name: str, answer: Any, count: int) -> torch.Tensor:
    if not isinstance(answer, torch.Tensor):
        wanted = "its logits alone"
        if hasattr(answer, "logits"):
            wanted = "its `.logits`"
        elif isinstance(answer, Mapping):
            wanted = f"that of its entries {sorted(map(str, answer))} which holds the logits"
        raise ExportRefused(
            f"{name} answers {type(answer).__name__}, no tensor of logits (N, C); wrap it in a "
            f"module that returns {wanted}"
        )
    shape = tuple(answer.shape)
    if answer.ndim != 2 or len(answer) != count:
        raise ExportRefused(
            f"{name} answers {shape} to {count} images, no logits (N, C); end it with nn.Flatten, "
            "or whatever makes (N, C) of that"
        )
    if answer.dtype != torch.float32:
        raise ExportRefused(f"{name} answers {answer.dtype}; give it in float32, by `.float()`")
    if shape[1] < 2:
        raise ExportRefused(
            f"{name} answers {shape[1]} logit, but the service takes a softmax over the classes; "
            "give two logits, [0, z] in place of z: torch.cat([torch.zeros_like(z), z], 1)"
        )
    return answer


def _ends_in_sigmoid(module: nn.Module, images: torch.Tensor) -> bool:
    """Return True if the last operation is a sigmoid, as recorded by autograd.

    Values alone do not show it: true logits may lie in [0, 1] too.
    """
    logits = _run(module, images.clone().requires_grad_(True).clone())  # it may work in place
    step = logits.grad_fn
    while step is not None and step.name().startswith(_RESHAPES):
        step = step.next_functions[0][0]
    return step is not None and step.name().startswith(("Sigmoid", "Hardsigmoid"))
