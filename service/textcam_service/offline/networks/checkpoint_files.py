"""Files of checkpoints, read as data: nothing in them is run."""

from __future__ import annotations

import argparse
import textwrap
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_NAMESPACE = "argparse.Namespace"  # as training scripts keep their arguments
# Lines of torch's error that say how to unpickle a file all the same.
_ADVICE = ("Weights only load failed", "(1)", "(2)", "Check the documentation")


def read_content(path: str) -> Any:
    """Read a .safetensors file, or one that torch.save wrote; no code of the file is run.

    Objects that are neither tensors nor plain data are inert: an empty mapping in place of most.

    Raises:
        Exception: The libraries' own, on bytes of another kind.
    """
    if Path(path).suffix == ".safetensors":
        return load_file(path)
    # Nothing is unpickled: torch reads tensors and plain data, and inert objects for the rest.
    with torch.serialization.safe_globals([argparse.Namespace, *_stand_ins(path)]):
        return torch.load(path, map_location="cpu", weights_only=True)


def is_module(entry: object) -> bool:
    """Return True if an entry of a file stands for a whole torch module."""
    return "_modules" in getattr(entry, "__dict__", {})


def reason(error: Exception) -> str:
    """Shorten a library's error; of torch's long one on unpickling take the part that differs."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = " ".join(line for line in lines if not line.startswith(_ADVICE))
    return textwrap.shorten(text.removeprefix("WeightsUnpickler error: "), 200, placeholder=" ...")


class _Inert:
    """An object of a class that a file names beside its weights: nothing of the class is run."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Ignore the object's content."""


class _InertMapping:
    """The same as an empty mapping, which torch fills; for subclasses of dict, and most others."""

    def __new__(cls, *_arguments: Any) -> Any:
        return OrderedDict()


def _stand_ins(path: str) -> list[type]:
    """Make an inert class for each one that a file names and torch does not take as data."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - no archive of torch.save; loading it says more
        return []
    made = []
    for name in named:
        module, _, own = name.rpartition(".")
        kind = _Inert if module.partition(".")[0] == "numpy" else _InertMapping
        made.append(type(own, (kind,), {"__module__": module}))
    return [kind for kind in made if f"{kind.__module__}.{kind.__name__}" != _NAMESPACE]
