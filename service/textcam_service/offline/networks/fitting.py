"""Networks of a library, built with the arguments that a checkpoint shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from textcam_service.offline.networks.checkpoints import Checkpoint

_ROUNDS = 3  # some arguments are seen only once others are right
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fitted:
    """A network that a checkpoint's weights are loaded into.

    Attributes:
        module: The network.
        shown: Its constructor's arguments that follow from the checkpoint.
        notes: What was taken from where, for people.
    """

    module: nn.Module
    shown: Mapping[str, Any]
    notes: tuple[str, ...]


def build_fitting(
    checkpoint: Checkpoint,
    make: Callable[..., nn.Module],
    options: Mapping[str, Any],
    shown_by: Callable[[Any, Tensors], Mapping[str, Any]],
    finish: Callable[[nn.Module], nn.Module] | None = None,
) -> Fitted:
    """Build the network that a checkpoint's weights belong to, and load them.

    Args:
        checkpoint: The weights.
        make: Builds the network from its constructor's arguments.
        options: Arguments that are given; no others are taken for them.
        shown_by: Network and weights -> arguments with which the network would fit them better.
        finish: Another form of the network, tried where the names still differ.

    Raises:
        ExportRefused: The weights belong to another network.
    """
    shown: dict[str, Any] = {}
    module = make(**options)
    for _ in range(_ROUNDS):
        found = shown_by(module, checkpoint.named_as(module).tensors)
        new = {name: value for name, value in found.items() if name not in {**options, **shown}}
        if not new:
            break
        shown |= new
        module = make(**options, **shown)
    notes = list(checkpoint.taken(module))
    if shown:
        notes.append(f"built with {as_text(shown)}, as the checkpoint's weights show")
    if finish is not None and not has_names(module, checkpoint.named_as(module).tensors):
        other = finish(module)
        if has_names(other, checkpoint.named_as(other).tensors):
            module = other
            notes.append("reparameterised, as the checkpoint's weights are")
    checkpoint.load_into(module)
    return Fitted(module, shown, tuple(notes))


def has_names(module: nn.Module, tensors: Tensors) -> bool:
    """Return True if a network's weights have the names of a checkpoint's."""
    return module.state_dict().keys() == tensors.keys()


def starts(names: Iterable[str], prefix: str) -> bool:
    """Return True if any name has the prefix."""
    return any(name.startswith(prefix) for name in names)


def side_of(tokens: int) -> int | None:
    """Return the side of a square grid of so many tokens; None: they make no square."""
    side = math.isqrt(max(tokens, 0))
    return side if side and side * side == tokens else None


def as_text(options: Mapping[str, Any]) -> str:
    """Return arguments as they are given to --model-option."""
    return ", ".join(f"{name}={value}" for name, value in options.items())
