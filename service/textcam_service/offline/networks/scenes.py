"""The scene world's networks: a classifier, its biased twin, and a small CLIP.

Their weights were trained by textcam_service.offline.scene_training and lie in data/scenes.
"""

from __future__ import annotations

from typing import Any

import open_clip
from safetensors.torch import load_file
from timm.models import register_model
from torch import Tensor, nn

from textcam_service.artefacts.packaged import SCENES
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.network import LoadedModule
from textcam_service.scenes.classes import CLASSES
from textcam_service.scenes.render import SIZE

CLIP_NAME = "textcam-scenes"
CLASSIFIERS = ("classifier", "biased")
_GREY = (0.5, 0.5, 0.5)
PREPROCESSING = Preprocessing(SIZE, SIZE, SIZE, "bicubic", _GREY, (0.25, 0.25, 0.25))


class SceneNet(nn.Module):
    """A small residual network (He et al. 2016) with a GAP + linear head: maps of 12 x 12."""

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 96, 192)) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            _Block(first, second, 2), _Block(second, third, 2), _Block(third, fourth, 1)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head: nn.Module = nn.Linear(fourth, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 96, 96) -> logits (N, 10)."""
        pooled: Tensor = self.pool(self.blocks(self.stem(images))).flatten(1)
        logits: Tensor = self.head(pooled)
        return logits


class SceneTrunk(SceneNet):
    """SceneNet without its head, with timm's interface, which open_clip's image towers need."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = self.blocks[-1].channels
        self.head = nn.Identity()
        self.default_cfg: dict[str, Any] = {"input_size": (3, SIZE, SIZE), "pool_size": None}

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (N, 3, 96, 96) -> maps (N, C, 12, 12)."""
        maps: Tensor = self.blocks(self.stem(images))
        return maps

    def forward_head(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) -> features (N, C)."""
        pooled: Tensor = self.pool(maps).flatten(1)
        return pooled

    def reset_classifier(self, *_arguments: Any, **_options: Any) -> None:
        """Do nothing: there is no classifier."""


@register_model
def textcam_scene_trunk(**_options: Any) -> SceneTrunk:
    """Build the image tower that the CLIP's model config names."""
    return SceneTrunk()


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
        self.activation = nn.ReLU()
        self.channels = outputs

    def forward(self, maps: Tensor) -> Tensor:
        answer: Tensor = self.activation(self.path(maps) + self.shortcut(maps))
        return answer


def load_scene_network(which: str, weights: str | None = None) -> LoadedModule:
    """Load a classifier of the scene world.

    Args:
        which: "classifier" or "biased".
        weights: A safetensors file; None: the one that comes with the package.

    Raises:
        ExportRefused: There is no such network.
    """
    if which not in CLASSIFIERS:
        raise ExportRefused(f"unknown network 'scenes:{which}'; there are {', '.join(CLASSIFIERS)}")
    module = SceneNet()
    state = load_file(weights or SCENES / f"{which}.safetensors")
    module.load_state_dict({name: value.float() for name, value in state.items()})
    return LoadedModule(module, PREPROCESSING, len(CLASSES), tuple(cls.name for cls in CLASSES))


def clip_checkpoint() -> tuple[str, str]:
    """Register the scenes' CLIP with open_clip; return its model name and checkpoint's path."""
    open_clip.add_model_config(SCENES / f"{CLIP_NAME}.json")
    return CLIP_NAME, str(SCENES / "clip.safetensors")
