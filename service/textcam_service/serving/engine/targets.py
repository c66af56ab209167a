"""Choice of the classes to explain, by their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from textcam_service.core.probability import class_probabilities
from textcam_service.core.types import Float32Array, FloatArray, Prediction
from textcam_service.serving.engine.jobs import Classes, Contrast, TargetSpec, TopK

# The explained class, and the reference that a contrast explains it against.
Target: TypeAlias = tuple[Prediction, Prediction | None]


class ClassScores:
    """Scores of an image, class by class.

    Args:
        logits: (C,).
        class_names: C names.
        multi_label: The classes do not exclude each other.

    Attributes:
        logits: The logits, (C,).
        probabilities: (C,), softmax over all classes, or the sigmoid of each.
    """

    def __init__(
        self, logits: Float32Array, class_names: Sequence[str], *, multi_label: bool = False
    ) -> None:
        self.logits = logits
        self.probabilities: FloatArray = class_probabilities(logits, multi_label=multi_label)
        self._class_names = class_names
        self._ranking = np.argsort(-logits, kind="stable")

    def of(self, index: int) -> Prediction:
        """Return the prediction of one class."""
        probability, logit = float(self.probabilities[index]), float(self.logits[index])
        return Prediction(int(index), self._class_names[index], probability, logit)

    def most_probable(self, count: int) -> list[Prediction]:
        """Return the `count` most probable classes, the most probable first."""
        return [self.of(index) for index in self._ranking[:count].tolist()]

    def targets(self, spec: TargetSpec) -> list[Target]:
        """Return the classes to explain, each with its reference class or None."""
        match spec:
            case TopK(k):
                return [(prediction, None) for prediction in self.most_probable(k)]
            case Classes(indices):
                return [(self.of(index), None) for index in indices]
            case Contrast(target, reference):
                return [(self.of(target), self.of(reference))]
