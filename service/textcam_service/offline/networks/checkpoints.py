"""Local checkpoints of torch classifiers, read without unpickling code."""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoint_files import (
    class_names,
    is_module,
    multi_label_entry,
    read_content,
    reason,
)

# Keys under which training loops keep the weights, beside epochs and optimisers; averages over
# the training's steps first, as timm and torchvision evaluate them.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict")
_WRAPPERS = (*_AVERAGES, "state_dict", "model_state_dict", "model")
# Modules that wrap others in place, inside of names too.
_WRAPPING = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_SHOWN = 3  # names of each kind of difference


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors under a network's own names.

    Attributes:
        tensors: Tensors by name.
        prefix: Prefix of the tensors' names in the file.
        left_out: Number of the file's tensors that have another prefix.
    """

    tensors: Mapping[str, torch.Tensor]
    prefix: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Weights out of a file.

    Attributes:
        path: Path of the file.
        state: Tensors by name.
        class_names: Class names that the file states; empty: it states none.
        named_by: The file's entry that states them.
        multi_label_by: The file's entry that states that classes do not exclude each other.
        entry: The file's entry that holds the weights; empty: they are the file.
        arguments: Arguments of the training script, if the file states them.
    """

    path: str
    state: Mapping[str, torch.Tensor]
    class_names: tuple[str, ...] = ()
    named_by: str = ""
    multi_label_by: str = ""
    entry: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        """True if the file states that the classes do not exclude each other."""
        return bool(self.multi_label_by)

    def load_into(self, module: nn.Module) -> None:
        """Load the weights.

        Raises:
            ExportRefused: The weights belong to another network.
        """
        weights = self.named_as(module)
        try:
            module.load_state_dict(weights.tensors)
        except RuntimeError as error:
            found = _differences(weights.tensors, module) or str(error)
            raise ExportRefused(
                f"{self.path!r} does not fit the network "
                f"({textwrap.shorten(found, 400, placeholder=' ...')}); name the network "
                "that it was saved from, and how that was built by --model-option NAME=VALUE"
            ) from error

    def build(self, make: Callable[..., nn.Module]) -> nn.Module:
        """Build the network that the weights belong to, and load them.

        The number of classes is read from the last entry of the network's own state dict:
        libraries make the classifier last. The file's order says nothing; safetensors sorts names.

        Args:
            make: Builds the network with its usual classes, or with `num_classes`.

        Raises:
            ExportRefused: The weights belong to another network.
        """
        module = make()
        last, usual = list(module.state_dict().items())[-1]
        found = self.named_as(module).tensors.get(last, usual)
        if found.ndim and found.shape != usual.shape:
            module = make(num_classes=len(found))
        self.load_into(module)
        return module

    def named_as(self, module: nn.Module) -> Weights:
        """Return the weights under the network's names, without what wrapped it in training.

        The prefix is the one under which most of the network's names are found.

        Raises:
            ExportRefused: The file holds the network more than once.
        """
        wanted = module.state_dict().keys()
        state = _unwrapped(self.state, wanted)
        counts = Counter(prefix for name in state for prefix, own in _splits(name) if own in wanted)
        most = max(counts.values(), default=0)
        prefixes = [prefix for prefix, count in counts.items() if count == most]
        if not prefixes or "" in prefixes:
            return Weights(state)
        if len(prefixes) > 1:
            raise ExportRefused(
                f"{self.path!r} holds the network {len(prefixes)} times, under the prefixes "
                f"{', '.join(sorted(prefixes))}; save one of them alone, by "
                "torch.save(network.state_dict(), ...)"
            )
        prefix = prefixes[0]
        inner = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        return Weights(inner, prefix, len(state) - len(inner))

    def taken(self, module: nn.Module) -> tuple[str, ...]:
        """Tell which of the file's weights a network takes, in words; empty: it has no others."""
        weights = self.named_as(module)
        said = []
        if self.entry:
            average = " (the average over the training)" if self.entry in _AVERAGES else ""
            said.append(f"the weights {self.entry!r}{average}")
        if weights.prefix:
            said.append(f"names without the prefix {weights.prefix!r}")
        if weights.left_out:
            said.append(f"{weights.left_out} tensors beside them left out")
        if self.class_names:
            said.append(f"the class names {self.named_by!r}")
        if self.multi_label_by:
            said.append(f"{self.multi_label_by!r}, by which the network is multi-label")
        return (f"taken from {Path(self.path).name}: {', '.join(said)}",) if said else ()


def class_count(module: nn.Module) -> int:
    """Return the number of classes of a library's network, see Checkpoint.build."""
    return len(list(module.state_dict().values())[-1])


def read_checkpoint(path: str, tags: Sequence[str] = ()) -> Checkpoint:
    """Read a state dict.

    Args:
        path: A .safetensors file, or one that torch.save wrote. It holds tensors by name, alone
            or as an entry together with other things. Of several entries an average over the
            training is taken, then "state_dict", "model_state_dict" or "model". With them
            class names, the kind of labels and "args" are read.
        tags: Weights tags that could have been given instead, for errors.

    Raises:
        ExportRefused: There is no such file, or it holds no state dict.
    """
    if not Path(path).is_file():
        known = f" (tags: {', '.join(tags)})" if tags else ""
        raise ExportRefused(f"{path!r} is neither a weights tag{known} nor a file")
    try:
        content = read_content(path)
    except Exception as error:  # the libraries' own, on bytes of another kind
        raise ExportRefused(
            f"{path!r} cannot be read ({type(error).__name__}: "
            f"{reason(error)}); save a state dict, by torch.save(network.state_dict(), ...) or as "
            "safetensors"
        ) from error
    if not isinstance(content, Mapping):
        raise _without_weights(path, type(content).__name__)
    if is_module(content):
        raise _without_weights(path, "a whole module")
    entry = _entry(path, content)
    state = content[entry] if entry else content
    names, named_by = class_names(content)
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    return Checkpoint(
        path,
        {name: value for name, value in state.items() if _is_state(name, value)},
        names,
        named_by,
        multi_label_entry(content),
        entry,
        arguments if isinstance(arguments, Mapping) else {},
    )


def _entry(path: str, content: Mapping[Any, Any]) -> str:
    """Return the entry of a file that holds its weights; empty: they are the file.

    Raises:
        ExportRefused: None does, or it is not known which.
    """
    holding = [str(key) for key, inner in content.items() if _holds_tensors(inner)]
    for key in _WRAPPERS:
        if key in holding:
            return key
    if _holds_tensors(content):
        return ""
    if len(holding) > 1:
        raise ExportRefused(
            f"{path!r} holds several state dicts, {', '.join(sorted(holding))}; save one of them "
            "alone, by torch.save(network.state_dict(), ...) or as safetensors"
        )
    if not holding:
        modules = [str(key) for key, inner in content.items() if is_module(inner)]
        raise _without_weights(path, str(sorted(map(str, content))), modules)
    return holding[0]


def _without_weights(path: str, held: str, modules: Sequence[str] = ()) -> ExportRefused:
    whole = f" (whole modules: {', '.join(modules)})" if modules else ""
    return ExportRefused(
        f"{path!r} holds no state dict, but {textwrap.shorten(held, 200)}{whole}; save one, by "
        "torch.save(network.state_dict(), ...) or as safetensors"
    )


def _holds_tensors(entry: object) -> bool:
    return isinstance(entry, Mapping) and any(
        isinstance(name, str) and torch.is_tensor(value) for name, value in entry.items()
    )


def _is_state(name: object, value: object) -> bool:
    return isinstance(name, str) and (torch.is_tensor(value) or name.endswith("_extra_state"))


def _unwrapped(state: Mapping[str, Any], wanted: Any) -> Mapping[str, Any]:
    """Return a state dict without the names of modules that wrapped others in training."""
    outer = [part for part in _WRAPPING if not any(part in name.split(".") for name in wanted)]
    return {
        ".".join(part for part in name.split(".") if part not in outer): value
        for name, value in state.items()
    }


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Split a name at each of its dots: (prefix with its dot, rest), the whole name first."""
    yield "", name
    for at, letter in enumerate(name):
        if letter == ".":
            yield name[: at + 1], name[at + 1 :]


def _differences(tensors: Mapping[str, torch.Tensor], module: nn.Module) -> str:
    """Say in words how a state dict differs from a network's own; empty: in no name or shape."""
    wanted = module.state_dict()
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    kinds = {
        "missing": [name for name in wanted if name not in tensors],
        "not the network's": [name for name in tensors if name not in wanted],
        "of another shape": reshaped,
    }
    return "; ".join(
        f"{kind}: {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for kind, names in kinds.items()
        if names
    )
