"""Predictions: classes with probability and logit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textcam_service.core.probability import class_probabilities
from textcam_service.core.types import FloatArray, Prediction


def predictions(
    logits: FloatArray,
    class_names: Sequence[str],
    indices: Iterable[int],
    *,
    multi_label: bool = False,
) -> list[Prediction]:
    """Read some classes' predictions from an image's logits.

    Args:
        logits: (C,).
        class_names: C names.
        indices: Classes, 0 .. C-1; the result is in their order.
        multi_label: See class_probabilities.
    """
    probabilities = class_probabilities(logits, multi_label=multi_label)
    return [
        Prediction(
            int(index), class_names[index], float(probabilities[index]), float(logits[index])
        )
        for index in indices
    ]
