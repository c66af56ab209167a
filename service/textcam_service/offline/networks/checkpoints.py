"""Local checkpoints of torch classifiers, read without unpickling code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from textcam_service.errors import ExportRefused

# Keys under which training loops store the weights, besides epochs and optimisers.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = re.compile(r"^((module|_orig_mod)\.)+")  # of DataParallel's and torch.compile's names


@dataclass(frozen=True)
class Checkpoint:
    """Weights out of a file.

    Attributes:
        path: Path of the file.
        state: Tensors by name.
        class_names: Class names that the file states; None: it states none.
    """

    path: str
    state: Mapping[str, torch.Tensor]
    class_names: tuple[str, ...] | None = None

    def load_into(self, module: nn.Module) -> None:
        """Load the weights.

        Raises:
            ExportRefused: The weights belong to another network.
        """
        try:
            module.load_state_dict(self._named_as(module))
        except RuntimeError as error:
            raise ExportRefused(
                f"{self.path!r} does not fit the network "
                f"({textwrap.shorten(str(error), 300, placeholder=' ...')}); name the network "
                "that it was saved from"
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
        found = self._named_as(module).get(last, usual)
        if found.ndim and found.shape != usual.shape:
            module = make(num_classes=len(found))
        self.load_into(module)
        return module

    def _named_as(self, module: nn.Module) -> Mapping[str, torch.Tensor]:
        """Return the weights, without a wrapper's prefix if the network has none."""
        if module.state_dict().keys() & self.state.keys():
            return self.state
        return {_PREFIX.sub("", name): value for name, value in self.state.items()}


def class_count(module: nn.Module) -> int:
    """Return the number of classes of a library's network, see Checkpoint.build."""
    return len(list(module.state_dict().values())[-1])


def read_checkpoint(path: str, tags: Sequence[str] = ()) -> Checkpoint:
    """Read a state dict.

    Args:
        path: A .safetensors file, or one that torch.save wrote. It holds tensors by name, alone
            or as "state_dict", "model_state_dict" or "model" together with other things, of which
            "class_names" is read.
        tags: Weights tags that could have been given instead, for errors.

    Raises:
        ExportRefused: There is no such file, or it holds no state dict.
    """
    if not Path(path).is_file():
        known = f" (tags: {', '.join(tags)})" if tags else ""
        raise ExportRefused(f"{path!r} is neither a weights tag{known} nor a file")
    try:
        content: Any = _content(path)
    except Exception as error:  # the libraries' own, on bytes of another kind
        raise ExportRefused(
            f"{path!r} cannot be read ({type(error).__name__}: "
            f"{textwrap.shorten(str(error), 200, placeholder=' ...')}); save a state dict, by "
            "torch.save(network.state_dict(), ...) or as safetensors"
        ) from error
    state, names = content, None
    if isinstance(content, Mapping):
        wrapped = (content.get(key) for key in _WRAPPERS)
        state = next((inner for inner in wrapped if isinstance(inner, Mapping)), content)
        names = content.get("class_names")
    if not isinstance(state, Mapping) or not any(map(torch.is_tensor, state.values())):
        held = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ExportRefused(
            f"{path!r} holds no state dict, but {textwrap.shorten(str(held), 200)}; save one, by "
            "torch.save(network.state_dict(), ...) or as safetensors"
        )
    return Checkpoint(path, state, tuple(map(str, names)) if names else None)


def _content(path: str) -> Any:
    if Path(path).suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
