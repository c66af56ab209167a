"""Made-up classifier, linear in the image's colours.

Each of its D channels is a fixed mixture of the colours, pooled to H x W cells. So its maps follow
the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from textcam.v1 import types_pb2 as types_pb

from textcam_client._heatmaps.geometry import Crop

CLASS_NAMES = (
    "tabby cat", "golden retriever", "goldfish", "barn owl", "espresso", "sports car",
    "space shuttle", "acoustic guitar", "lighthouse", "daisy",
)  # fmt: skip
CHANNELS = 24
CELLS = 7


@dataclass(frozen=True)
class NetworkOutput:
    """The image with its crop, and the network's activation maps (D, H, W) and logits (C,)."""

    image: Image.Image
    crop: Crop
    decoder: str
    activation_maps: NDArray[Any]
    logits: NDArray[Any]


class FakeNetwork:
    """Linear classifier of an image's colours; deterministic.

    Args:
        class_names: Its classes.
        multi_label: They do not exclude each other: probabilities are sigmoids, not a softmax.
    """

    def __init__(self, class_names: Sequence[str], *, multi_label: bool = False) -> None:
        self.multi_label = multi_label
        self.class_names = tuple(class_names)
        seeded = np.random.default_rng(20251001)
        self._mixture = seeded.uniform(0, 1, (CHANNELS, 3)) ** 2
        self._weights = seeded.normal(0, 1.5, (len(self.class_names), CHANNELS))
        self._bias = seeded.normal(0, 0.2, len(self.class_names))

    def forward(self, image: Image.Image, decoder: str) -> NetworkOutput:
        """Classify the square in the middle of an image."""
        side = min(image.width, image.height)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        cells = image.resize(
            (CELLS, CELLS), Image.Resampling.BOX, (left, top, left + side, top + side)
        )
        colours = np.asarray(cells, np.float64).transpose(2, 0, 1) / 255
        maps = np.tensordot(self._mixture, colours, axes=1)
        logits = self._weights @ maps.mean(axis=(1, 2)) + self._bias
        return NetworkOutput(image, Crop(left, top, side, side), decoder, maps, logits)

    def prediction(self, output: NetworkOutput, index: int) -> types_pb.Prediction:
        """Return a class with its probability and its logit."""
        if self.multi_label:
            probability = 0.5 * (1 + np.tanh(0.5 * output.logits[index]))
        else:
            likelihoods = np.exp(output.logits - output.logits.max())
            probability = likelihoods[index] / likelihoods.sum()
        return types_pb.Prediction(
            class_index=index,
            class_name=self.class_names[index],
            probability=probability,
            logit=output.logits[index],
        )

    def head(self, index: int, reference: int | None) -> tuple[NDArray[np.float64], float]:
        """Return the weights (D,) and bias of a class's logit, minus those of `reference`."""
        weights, bias = self._weights[index], self._bias[index]
        if reference is not None:
            weights, bias = weights - self._weights[reference], bias - self._bias[reference]
        return weights, float(bias)
