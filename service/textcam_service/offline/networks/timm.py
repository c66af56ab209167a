"""timm's classifiers: "timm:NAME"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, get_args

from textcam_service.core.types import CropMode, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import Checkpoint, read_checkpoint
from textcam_service.offline.networks.fitting import (
    Tensors,
    as_text,
    build_fitting,
    side_of,
    starts,
)
from textcam_service.offline.networks.network import (
    IMAGENET,
    NO_OPTIONS,
    RANDOM_WEIGHTS,
    LoadedModule,
    as_interpolation,
    as_triple,
    imagenet_names,
    seeded,
)

timm: Any = import_module("timm")  # it ships types for half of its functions

_LEAST_OTHER = 10_000  # classes of its classifiers that do not know ImageNet's
# Arguments of timm's training script that say how images are prepared.
_FED = ("input_size", "img_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")


def load_timm(
    name: str, weights: str | None, options: Mapping[str, Any] = NO_OPTIONS
) -> LoadedModule:
    """Load a timm model; arguments as for load_network.

    Raises:
        ExportRefused: The checkpoint does not fit, or the service cannot resize images as the
            model wants them.
    """
    notes, names, fed = tuple[str, ...](), tuple[str, ...](), dict[str, Any]()
    multi_label = False
    size = options.get("img_size")
    if weights == RANDOM_WEIGHTS:
        with seeded():
            module = _create(name, pretrained=False, **options)
    elif weights is None or f"{name.partition('.')[0]}.{weights}" in timm.list_pretrained():
        _refuse_classes(options)
        tagged = name if weights is None else f"{name.partition('.')[0]}.{weights}"
        module = _create(tagged, pretrained=True, **options)
        names = _own_names(module)
    else:
        checkpoint = read_checkpoint(weights)
        told = _told_in_training(checkpoint)
        make = partial(_create, name, pretrained=False)
        fitted = build_fitting(
            checkpoint, make, {**told, **options}, _shown, timm.utils.reparameterize_model
        )
        module, names = fitted.module, checkpoint.class_names
        multi_label = checkpoint.multi_label
        fed = _fed_in_training(checkpoint)
        size = size or told.get("img_size") or fitted.shown.get("img_size")
        notes = (*fitted.notes, *_training_notes({**told, **fed}), *_unseen(module, told, options))
        options = {**told, **options}
    _require_classifier(name, module, options)
    if size is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        fed["input_size"] = (3, *sides)
    preprocessing = _preprocessing(name, timm.data.resolve_model_data_config(module, args=fed))
    count = int(module.num_classes)
    return LoadedModule(module, preprocessing, count, names, False, notes, options, multi_label)


def _create(name: str, **options: Any) -> Any:
    """Create a model; an `img_size` that its constructor does not take is its input's alone."""
    try:
        return timm.create_model(name, **options)
    except TypeError as error:
        if "img_size" not in options or "'img_size'" not in str(error):
            raise
        del options["img_size"]
        return timm.create_model(name, **options)


def _refuse_classes(options: Mapping[str, Any]) -> None:
    if "num_classes" in options:
        raise ExportRefused(
            "num_classes is for a local checkpoint or random weights: the library's weights have "
            "their own classes; leave it out"
        )


def _require_classifier(name: str, module: Any, options: Mapping[str, Any]) -> None:
    """Refuse a feature extractor, and a CLIP's tower, whose last layer is no classifier.

    timm's own classifiers know ImageNet's classes, or more than all of its CLIPs' dimensions.
    """
    count, usual = module.num_classes, (module.pretrained_cfg or {}).get("num_classes")
    known = "num_classes" in options or timm.data.infer_imagenet_subset(module) is not None
    if count and (known or count != usual or count >= _LEAST_OTHER):
        return
    fault = f"its {count} outputs are an image's embedding" if count else "it has num_classes=0"
    raise ExportRefused(
        f"timm:{name} has no classifier here: {fault}; give --weights of a checkpoint that was "
        "fine-tuned from it, with its classifier, or a tag with classes, such as those that end "
        "in in1k. Random weights, and a checkpoint that has exactly that many classes, take "
        "--model-option num_classes=NUMBER"
    )


def _own_names(module: Any) -> tuple[str, ...]:
    """Return the class names of the library's weights; empty: it does not know them."""
    subset = timm.data.infer_imagenet_subset(module)
    if subset is None or module.pretrained_cfg.get("file"):  # a file's weights are the user's
        return ()
    if subset == IMAGENET:
        return imagenet_names()
    synonyms = timm.data.ImageNetInfo(subset).label_descriptions()
    first = [names.partition(",")[0] for names in synonyms]
    once = Counter(first)
    return tuple(
        name if once[name] == 1 else names for name, names in zip(first, synonyms, strict=True)
    )


def _told_in_training(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the constructor's arguments that timm's training script was given."""
    told = dict(checkpoint.arguments.get("model_kwargs") or {})
    if checkpoint.arguments.get("gp"):
        told["global_pool"] = checkpoint.arguments["gp"]
    return told


def _fed_in_training(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: value for name in _FED if (value := checkpoint.arguments.get(name))}


def _training_notes(told: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{as_text(told)}, as its training script was called",) if told else ()


def _unseen(module: Any, told: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what the model computes with and no checkpoint shows."""
    pool = getattr(module, "global_pool", None)
    if pool is None:
        pool = getattr(getattr(module, "head", None), "global_pool", None)
    kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
    if kind in ("avg", "max", "avgmax", "fast", "fastavg") and "global_pool" not in {
        **told,
        **options,
    }:
        return (
            f"global_pool={kind} is assumed: the weights fit avg, max and avgmax alike; give "
            "--model-option global_pool=NAME if it was trained with another",
        )
    return ()


def _shown(module: Any, tensors: Tensors) -> dict[str, Any]:
    """Return the arguments with which timm would have made the model that the weights are of."""
    own = module.state_dict()
    found = {"global_pool": _pooling(own, tensors), "img_size": _image_size(module, own, tensors)}
    head = _classifier(module, own, tensors)
    if head is not None:
        if len(tensors[head]) != module.num_classes:
            found["num_classes"] = len(tensors[head])
        if head in own and own[head].ndim > 1 and tensors[head].shape[1] == 2 * own[head].shape[1]:
            found["global_pool"] = "catavgmax"
    if starts(tensors, "AuxLogits.") and not starts(own, "AuxLogits."):
        found["aux_logits"] = True
    return {name: value for name, value in found.items() if value is not None}


def _classifier(module: Any, own: Tensors, tensors: Tensors) -> str | None:
    """Return the name of the classifier's weight; None: the checkpoint has none."""
    stated = (getattr(module, "pretrained_cfg", None) or {}).get("classifier") or ()
    stated = (stated,) if isinstance(stated, str) else stated
    for name in stated:
        while name:  # a fused head takes the place of what held it
            if f"{name}.weight" in tensors and tensors[f"{name}.weight"].ndim > 1:
                return f"{name}.weight"
            name = name.rpartition(".")[0]  # noqa: PLW2901
    last = list(own)[-1]  # timm makes it last
    return last if module.num_classes and last in tensors and tensors[last].ndim else None


def _pooling(own: Tensors, tensors: Tensors) -> str | None:
    """Return the pooling of a ViT, which the names of its last norm show; None: the model's own."""
    attends, norm = starts(tensors, "attn_pool."), starts(tensors, "fc_norm.")
    if attends == starts(own, "attn_pool.") and norm == starts(own, "fc_norm."):
        return None
    if attends:
        return "map"
    if norm:
        return "avg"
    return "token" if "cls_token" in tensors else None


def _image_size(module: Any, own: Tensors, tensors: Tensors) -> int | None:
    """Return the side of a ViT's images, which its positions show; None: the model's own."""
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    usual, found = own.get("pos_embed"), tensors.get("pos_embed")
    if grid is None or usual is None or found is None or usual.shape == found.shape:
        return None
    if usual.ndim != 3 or found.ndim != 3:
        return None
    further = usual.shape[1] - grid[0] * grid[1]  # of the class, and registers
    side = side_of(found.shape[1] - further)
    height, width = module.patch_embed.patch_size
    return side * int(height) if side is not None and height == width else None


def _preprocessing(name: str, config: Mapping[str, Any]) -> Preprocessing:
    if config["crop_mode"] not in get_args(CropMode):
        raise ExportRefused(
            f"timm:{name} wants its images resized by {config['crop_mode']!r}; served are "
            f"{', '.join(get_args(CropMode))}"
        )
    _, height, width = config["input_size"]
    return Preprocessing(
        int(max(height, width) / config["crop_pct"]),
        height,
        width,
        as_interpolation(config["interpolation"]),
        as_triple(config["mean"]),
        as_triple(config["std"]),
        config["crop_mode"],
    )
