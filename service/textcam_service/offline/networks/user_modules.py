"""Users' own modules: "import:package.module:attribute"."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoints import read_checkpoint
from textcam_service.offline.networks.network import (
    NO_OPTIONS,
    RANDOM_WEIGHTS,
    LoadedModule,
    seeded,
    standard_preprocessing,
)
from textcam_service.offline.networks.smoke_test import check_logits, sample_images


def load_user_module(
    name: str, weights: str | None, options: Mapping[str, Any] = NO_OPTIONS
) -> LoadedModule:
    """Load a user's module; arguments as for load_network.

    `preprocessing`, `class_names` and `vertex_positions` may be attributes of it, see Network.
    Without them it gets torchvision's usual preprocessing, and its classes are counted by a smoke
    test and numbered.

    Raises:
        ExportRefused: There is no such module, or its attributes are of another type, or it fails
            the smoke test.
    """
    package, _, attribute = name.removeprefix("import:").partition(":")
    try:
        found = getattr(import_module(package), attribute)
    except (ImportError, AttributeError) as error:
        raise ExportRefused(
            f"{name}: {error}; give import:package.module:attribute, with the package on PYTHONPATH"
        ) from error
    if options and isinstance(found, nn.Module):
        raise ExportRefused(f"{name} is a module, made already; leave out --model-option")
    with seeded():
        module = found if isinstance(found, nn.Module) else found(**options)
    if not isinstance(module, nn.Module):
        raise ExportRefused(f"{name} gives {type(module).__name__}, no torch.nn.Module")
    checkpoint, notes = None, tuple[str, ...]()
    if weights is not None and weights != RANDOM_WEIGHTS:
        checkpoint = read_checkpoint(weights)
        checkpoint.load_into(module)
        notes = checkpoint.taken(module)
    preprocessing = getattr(module, "preprocessing", standard_preprocessing())
    if not isinstance(preprocessing, Preprocessing):
        raise ExportRefused(f"{name}: its `preprocessing` is no core.types.Preprocessing")
    stated = getattr(module, "class_names", None)
    if stated is not None:
        names = tuple(map(str, stated))
        return LoadedModule(module, preprocessing, len(names), names, notes=notes, options=options)
    count = check_logits(name, module.eval(), sample_images(preprocessing)).shape[1]
    names = checkpoint.class_names if checkpoint is not None else ()
    return LoadedModule(module, preprocessing, count, names, True, notes, options)
