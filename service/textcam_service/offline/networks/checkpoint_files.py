"""Files of checkpoints, read as data: nothing in them is run."""

from __future__ import annotations

import argparse
import textwrap
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_NAMESPACE = "argparse.Namespace"  # as training scripts keep their arguments
# Entries that name the classes, and those in which training tools keep such things.
_NAMES = (
    "class_names",
    "classes",
    "CLASSES",
    "idx_to_class",
    "class_to_idx",
    "id2label",
    "label2id",
)
# Entries by which classes do not exclude each other: transformers', and Lightning's habits.
_MULTI_LABEL = (
    ("problem_type", "multi_label_classification"),
    ("task", "multilabel"),
    ("multi_label", True),
    ("multilabel", True),
)
_KEPT = ("hyper_parameters", "hparams", "args", "config", "meta", "dataset_meta")
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


def class_names(content: object) -> tuple[tuple[str, ...], str]:
    """Return the class names that a file states, and the entry that does; ((), ""): none.

    A list of names, names by index, or indices by name.
    """
    for path, entries in _entries(content):
        for key in _NAMES:
            names = as_names(entries.get(key))
            if names:
                return names, ".".join((*path, key))
    return (), ""


def multi_label_entry(content: object) -> str:
    """Return the entry by which a file's classes do not exclude each other; empty: none is."""
    for path, entries in _entries(content):
        for key, value in _MULTI_LABEL:
            if entries.get(key) == value:
                return ".".join((*path, key))
    return ""


def _entries(content: object, *path: str) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """List a file's entries, and those that training tools keep inside of others."""
    entries = vars(content) if isinstance(content, argparse.Namespace) else content
    if isinstance(entries, Mapping):
        yield path, entries
        for key in _KEPT:
            yield from _entries(entries.get(key), *path, key)


def as_names(value: object) -> tuple[str, ...]:
    """Return names in order of index; empty: the value holds none."""
    if isinstance(value, Mapping):
        pairs = [(at, name) if isinstance(name, str) else (name, at) for at, name in value.items()]
        by_index = {int(at): name for at, name in pairs if str(at).isdecimal()}
        value = [by_index.get(index) for index in range(len(value))]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        return ()
    return tuple(value)


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
