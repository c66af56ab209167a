"""timm's classifiers: "timm:NAME"."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, get_args

from textcam_service.core.types import CropMode, Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import read_checkpoint
from textcam_service.offline.networks.network import (
    RANDOM_WEIGHTS,
    LoadedModule,
    as_interpolation,
    as_triple,
    class_names_of,
    seeded,
)

timm: Any = import_module("timm")  # it ships types for half of its functions


def load_timm(name: str, weights: str | None) -> LoadedModule:
    """Load a timm model; `weights` as for load_network.

    Raises:
        ExportRefused: The service cannot resize images as the model wants them.
    """
    checkpoint = None
    if weights == RANDOM_WEIGHTS:
        with seeded():
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
        as_interpolation(config["interpolation"]),
        as_triple(config["mean"]),
        as_triple(config["std"]),
        config["crop_mode"],
    )
    names = class_names_of(checkpoint, int(module.num_classes))
    notes = checkpoint.taken(module) if checkpoint is not None else ()
    return LoadedModule(module, preprocessing, names, notes=notes)
