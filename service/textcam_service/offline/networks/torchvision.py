"""torchvision's classifiers: "torchvision:NAME"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torchvision import models

from textcam_service.core.types import Preprocessing
from textcam_service.offline.networks.checkpoints import class_count, read_checkpoint
from textcam_service.offline.networks.fitting import Tensors, build_fitting, side_of, starts
from textcam_service.offline.networks.network import (
    NO_OPTIONS,
    RANDOM_WEIGHTS,
    LoadedModule,
    as_interpolation,
    as_triple,
    seeded,
    standard_preprocessing,
)

_AUXILIARY = ("aux1.", "AuxLogits.", "aux_classifier.")


def load_torchvision(
    name: str, weights: str | None, options: Mapping[str, Any] = NO_OPTIONS
) -> LoadedModule:
    """Load a torchvision model; arguments as for load_network.

    Raises:
        ExportRefused: The checkpoint does not fit.
    """
    known = models.get_model_weights(name)
    if weights == RANDOM_WEIGHTS:
        with seeded():
            module = models.get_model(name, weights=None, **options)
        usual = standard_preprocessing(getattr(module, "image_size", 224))
        return LoadedModule(module, usual, class_count(module), options=options)
    if weights is not None and weights not in known.__members__:
        checkpoint = read_checkpoint(weights, tags=tuple(known.__members__))
        fitted = build_fitting(
            checkpoint, partial(models.get_model, name, weights=None), options, _shown
        )
        module = fitted.module
        presets = [_preset(tag) for tag in (known.DEFAULT, *known)]
        size = getattr(module, "image_size", presets[0].height)  # a ViT takes one size alone
        near = next((preset for preset in presets if preset.height == size), presets[0])
        usual = near if near.height == size else replace(near, resize=size, height=size, width=size)
        count, names = class_count(module), checkpoint.class_names
        notes = (*fitted.notes, *_unseen(module, options))
        multi_label = checkpoint.multi_label
        return LoadedModule(module, usual, count, names, False, notes, options, multi_label)
    tag = known[weights or "DEFAULT"]
    module = models.get_model(name, weights=tag, **options)
    names = tuple(tag.meta["categories"])
    return LoadedModule(module, _preset(tag), class_count(module), names, options=options)


def _shown(module: Any, tensors: Tensors) -> dict[str, Any]:
    """Return the arguments with which torchvision would have made the model of the weights."""
    own = module.state_dict()
    last, usual = list(own.items())[-1]
    found = tensors.get(last, usual)
    shown: dict[str, Any] = {}
    if found.ndim and found.shape != usual.shape:
        shown["num_classes"] = len(found)
    if any(starts(own, prefix) and not starts(tensors, prefix) for prefix in _AUXILIARY):
        shown["aux_logits"] = False
    positions = tensors.get("encoder.pos_embedding")
    if positions is not None and hasattr(module, "patch_size"):
        side = side_of(positions.shape[1] - 1)
        if side is not None and side * module.patch_size != module.image_size:
            shown["image_size"] = side * module.patch_size
    return shown


def _unseen(module: Any, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what the model computes with and no checkpoint shows."""
    if not hasattr(module, "transform_input") or "transform_input" in options:
        return ()
    return (
        "transform_input=False is assumed, which the weights do not show; give --model-option "
        "transform_input=True if it was trained from torchvision's own weights",
    )


def _preset(tag: Any) -> Preprocessing:
    """Return the preprocessing that torchvision states for a weights tag."""
    preset = tag.transforms()
    return Preprocessing(
        preset.resize_size[0],
        preset.crop_size[0],
        preset.crop_size[0],
        as_interpolation(preset.interpolation.value),
        as_triple(preset.mean),
        as_triple(preset.std),
    )
