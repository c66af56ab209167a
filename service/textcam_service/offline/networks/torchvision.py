"""torchvision's classifiers: "torchvision:NAME"."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchvision import models

from textcam_service.core.types import Preprocessing
from textcam_service.offline.networks.checkpoints import class_count, read_checkpoint
from textcam_service.offline.networks.network import (
    RANDOM_WEIGHTS,
    LoadedModule,
    as_interpolation,
    as_triple,
    class_names_of,
    seeded,
    standard_preprocessing,
    unique_names,
)


def load_torchvision(name: str, weights: str | None) -> LoadedModule:
    """Load a torchvision model; `weights` as for load_network."""
    known = models.get_model_weights(name)
    if weights == RANDOM_WEIGHTS:
        with seeded():
            module = models.get_model(name, weights=None)
        return LoadedModule(module, standard_preprocessing(), class_names_of(None, 1000))
    if weights is not None and weights not in known.__members__:
        checkpoint = read_checkpoint(weights, tags=tuple(known.__members__))
        module = checkpoint.build(partial(models.get_model, name, weights=None))
        presets = [_preset(tag) for tag in (known.DEFAULT, *known)]
        size = getattr(module, "image_size", presets[0].height)  # a ViT takes one size alone
        usual = next(preset for preset in presets if preset.height == size)
        names = class_names_of(checkpoint, class_count(module))
        return LoadedModule(module, usual, names, notes=checkpoint.taken(module))
    tag = known[weights or "DEFAULT"]
    module = models.get_model(name, weights=tag)
    return LoadedModule(module, _preset(tag), unique_names(tag.meta["categories"]))


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
