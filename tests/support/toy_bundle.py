"""A toy network whose logits can be worked out by hand.

Its channels are a picture's red, green and blue and a constant; its phrases lie on the axes of
its space.
"""

from types import SimpleNamespace

import numpy as np
from PIL import Image
from textcam_service.artefacts.backbone import GAP_LINEAR
from textcam_service.artefacts.bank import BankArtefact, ConceptBank, Vocabulary
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import Preprocessing
from textcam_service.model.bundle import ModelBundle
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.output import BackboneOutput

PHRASES = ("red", "cube", "plain floor", "blue", "green", "sphere", "striped floor", "cone")


AXES = np.eye(4, dtype=np.float32)


class ToyBackbone(Backbone):
    """Maps 2 x 2 of a picture of 4 x 4: mean red, green, blue of each quarter, and a constant.

    logits = ((w . channels) + bias, 0), in hundreds of a colour's value; `multi_label`: two labels.
    """

    def __init__(self, weights=(1.0, 1.0, 1.0, 1.0), bias=0.0, constant=0.0, multi_label=False):
        size = Preprocessing(4, 4, 4, "bilinear", (0.0,) * 3, (1.0,) * 3)
        self.manifest = SimpleNamespace(
            vertices=0,
            preprocessing=size,
            class_names=("seen", "other"),
            head_kind=GAP_LINEAR,
            grid_shift=(0.0, 0.0),
            attention=(),
            multi_label=multi_label,
        )
        self.head_weights = np.array([weights, np.zeros(len(weights))], np.float32)
        self.head_bias = np.array([bias, 0.0], np.float32)
        self.constant, self._layers = constant, None

    def run(self, images):
        quarters = images.reshape(len(images), 3, 2, 2, 2, 2).mean((3, 5)) * 2.55
        constant = np.full((len(images), 1, 2, 2), self.constant)
        maps = np.concatenate([quarters, constant], axis=1).astype(np.float32)
        return maps.mean((2, 3)) @ self.head_weights.T + self.head_bias, maps

    def forward(self, images):
        return [
            BackboneOutput(logits, maps) for logits, maps in zip(*self.run(images), strict=True)
        ]


def toy_bundle(backbone=None, channel_embeddings=AXES):
    """Return a bundle whose channels stand for phrases on the axes of its space."""
    channels = len(channel_embeddings)
    bank = ConceptBank(
        channel_embeddings, np.zeros(channels, bool), AXES[0], np.zeros(channels), "", "e", {}
    )
    words = Vocabulary(PHRASES, np.concatenate([AXES, -AXES]), "e")
    settings = RationaleSettings(prior=0.0)
    return ModelBundle(
        "toy", "1", backbone or ToyBackbone(), BankArtefact(bank, words, "", ""), settings
    )


def corner_picture():
    """4 x 4: four pixels of red 160 in a corner, so that its mean is a whole number, 40."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, :2, 0] = 160
    return Image.fromarray(pixels)
