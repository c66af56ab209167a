"""Users' own modules: "import:package.module:attribute"."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.checkpoint_files import multi_label_entry
from textcam_service.offline.networks.checkpoints import Checkpoint, read_checkpoint
from textcam_service.offline.networks.network import (
    NO_OPTIONS,
    NOTHING_STATED,
    RANDOM_WEIGHTS,
    LoadedModule,
    StatedPreprocessing,
    seeded,
    standard_preprocessing,
)
from textcam_service.offline.networks.smoke_test import (
    check_logits,
    cut_last_sigmoid,
    sample_images,
)


def load_user_module(
    name: str,
    weights: str | None,
    options: Mapping[str, Any] = NO_OPTIONS,
    stated: StatedPreprocessing = NOTHING_STATED,
) -> LoadedModule:
    """Load a user's module; arguments as for load_network.

    `preprocessing`, `class_names`, `multi_label` and `vertex_positions` may be attributes of it,
    see Network. Without them it gets torchvision's usual preprocessing, and its classes are counted
    by a smoke test and numbered. A last nn.Sigmoid is left out, and makes it multi-label.

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
    module.eval()
    preprocessing = getattr(module, "preprocessing", standard_preprocessing())
    if not isinstance(preprocessing, Preprocessing):
        raise ExportRefused(f"{name}: its `preprocessing` is no core.types.Preprocessing")
    images = sample_images(stated.over(preprocessing))
    own = getattr(module, "class_names", None)
    ended = cut_last_sigmoid(module, images)
    multi_label = bool(ended) or _states_multi_label(module, checkpoint)
    if ended:
        notes += (f"the sigmoid at its end, {ended!r}, is left out: it is multi-label",)
    if own is not None:
        names = tuple(map(str, own))
        count, tested = len(names), False
    else:
        names = checkpoint.class_names if checkpoint is not None else ()
        count, tested = check_logits(name, module, images).shape[1], True
    return LoadedModule(module, preprocessing, count, names, tested, notes, options, multi_label)


def _states_multi_label(module: nn.Module, checkpoint: Checkpoint | None) -> bool:
    """Return True if a module, a model of transformers inside of it, or its checkpoint says so."""
    if getattr(module, "multi_label", False) or (checkpoint is not None and checkpoint.multi_label):
        return True
    configs = (getattr(own, "config", None) for own in module.modules())
    kinds = [getattr(config, "problem_type", None) for config in configs]
    return any(multi_label_entry({"problem_type": kind}) for kind in kinds)
