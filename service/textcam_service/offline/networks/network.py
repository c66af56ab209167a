"""A classifier in memory, and what every way of loading one shares."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from textcam_service.core.types import CropMode, Interpolation, Preprocessing
from textcam_service.errors import ExportRefused

RANDOM_WEIGHTS = "none"
IMAGENET = "imagenet-1k"
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_INTERPOLATIONS: Mapping[str, Interpolation] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "random": "bilinear",  # timm: drawn in training, bilinear otherwise
}


@dataclass(frozen=True)
class StatedPreprocessing:
    """Parts of a preprocessing that a caller or a file states; None: not stated.

    Attributes:
        size: (height, width) of the network's input, pixels.
        resize: See Preprocessing, like the others.
        interpolation: Filter.
        mean: Mean of pixels scaled to 0..1.
        std: Standard deviation of pixels scaled to 0..1.
        crop_mode: Mode.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop_mode: CropMode | None = None

    def over(self, usual: Preprocessing) -> Preprocessing:
        """Put what is stated in the place of the usual; resizing goes with a size alone."""
        height, width = self.size or (usual.height, usual.width)
        longer = max(usual.height, usual.width)
        return Preprocessing(
            self.resize or max(usual.resize * max(height, width) // longer, 1),
            height,
            width,
            self.interpolation or usual.interpolation,
            self.mean or usual.mean,
            self.std or usual.std,
            self.crop_mode or usual.crop_mode,
        )

    def named(self) -> tuple[str, ...]:
        """Return the names of the parts that are stated."""
        return tuple(own.name for own in fields(self) if getattr(self, own.name) is not None)

    def notes(self, usual: Preprocessing, origin: str) -> tuple[str, ...]:
        """Say, for people, what took the place of the usual.

        Args:
            usual: The preprocessing without what is stated.
            origin: Beginning of the note, as "given, in place of the network's own".
        """
        told = self.over(usual)
        pairs = [
            (own.name, getattr(told, own.name), getattr(usual, own.name)) for own in fields(told)
        ]
        other = [
            f"{name} {words(new)} (not {words(old)})" for name, new, old in pairs if new != old
        ]
        return (f"{origin}: {', '.join(other)}",) if other else ()


NOTHING_STATED = StatedPreprocessing()


def words(value: Any) -> str:
    """Write a number, a word or three numbers."""
    several = value if isinstance(value, tuple) else (value,)
    return ",".join(one if isinstance(one, str) else f"{one:.6g}" for one in several)


@dataclass(frozen=True)
class Network:
    """A classifier, ready to run.

    Attributes:
        name: Name given to load_network.
        module: Images (N, 3, h, w) to logits (N, C), in evaluation mode, on the CPU.
        preprocessing: Conversion of pixels to its input.
        class_names: C names, no two equal.
        vertex_positions: For a network with activations on the vertices of a graph: (V, 2) x and y
            in pixels of its input, or the name of the module that returns them, (N, V, 2).
        smoke_tested: The module has passed smoke_test.check_logits, which counted its classes.
        notes: Remarks on how it was loaded, for people.
        options: Arguments of its constructor that its weights do not show.
        multi_label: Its classes do not exclude each other: a sigmoid for each gives probabilities.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    vertex_positions: torch.Tensor | str | None = None
    smoke_tested: bool = False
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False


@dataclass(frozen=True)
class LoadedModule:
    """A module as one library's loader gives it; other attributes as in Network.

    Attributes:
        class_count: C.
        class_names: C names that come with the weights; empty: they are unknown.
    """

    module: nn.Module
    preprocessing: Preprocessing
    class_count: int
    class_names: tuple[str, ...] = ()
    smoke_tested: bool = False
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False


def standard_preprocessing(height: int = 224, width: int | None = None) -> Preprocessing:
    """Return torchvision's usual preprocessing: 8/7 of the longer side, then the centre."""
    width = width or height
    resize = max(height, width) * 8 // 7
    return Preprocessing(resize, height, width, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD)


def as_interpolation(name: str) -> Interpolation:
    """Return the service's name of a library's interpolation.

    Raises:
        ExportRefused: The service has no such interpolation.
    """
    if name not in _INTERPOLATIONS:
        raise ExportRefused(
            f"interpolation {name!r} is not served, only bilinear, bicubic, lanczos"
        )
    return _INTERPOLATIONS[name]


def as_triple(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the values of three colour channels as a tuple of floats."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def choose_names(name: str, loaded: LoadedModule, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of a network's classes: those given, its own, or numbers.

    Args:
        name: Name of the network, for errors.
        loaded: The network.
        given: C names in place of its own; empty: none are given.

    Raises:
        ExportRefused: It has another number of classes.
    """
    names, count = given or loaded.class_names, loaded.class_count
    if names and len(names) != count:
        source = "were given" if given else "come with its weights; give others by --classes"
        raise ExportRefused(f"{name} has {count} classes, but {len(names)} class names {source}")
    return unique_names(names) or numbered(count)


def numbered(count: int) -> tuple[str, ...]:
    """Return stand-ins for names that are unknown: "class 0", "class 1" ..."""
    return tuple(f"class {index}" for index in range(count))


def has_names(class_names: Sequence[str]) -> bool:
    """Return True if the names of classes are known, and no stand-ins."""
    return tuple(class_names) != numbered(len(class_names))


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet-1k's classes, all distinct."""
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Add the class index to equal names: "crane (134)", "crane (517)"."""
    count = Counter(names)
    distinct = tuple(f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names))
    # One of the new names may have been there already; then it gets an index in its turn.
    return distinct if len(set(distinct)) == len(distinct) else unique_names(distinct)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Draw the same random weights inside the block at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
