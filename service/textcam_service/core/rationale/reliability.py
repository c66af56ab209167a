"""Reliability tables: predicted probability compared with observed frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.types import FloatArray

BINS = 10
"""Ranges of a reliability table."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Phrases of probing images with their probability in one range.

    Attributes:
        lower: Lower end of the range.
        upper: Upper end of the range, not included unless it is 1.
        probability: Their mean probability.
        observed: The share that is true, by the soft labels.
        count: Number of phrases.
    """

    lower: float
    upper: float
    probability: float
    observed: float
    count: int


def reliability(probabilities: FloatArray, observed: FloatArray) -> tuple[ReliabilityBin, ...]:
    """Compare probabilities with what is true, in ten ranges; empty ones are left out.

    Args:
        probabilities: Any shape, 0..1.
        observed: The same shape: 0, 1, or soft labels.
    """
    given, true = np.ravel(probabilities), np.ravel(observed)
    place = np.minimum((given * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=values, minlength=BINS) for values in (given, true)]
    return tuple(
        ReliabilityBin(
            index / BINS,
            (index + 1) / BINS,
            float(sums[0][index] / count[index]),
            float(sums[1][index] / count[index]),
            int(count[index]),
        )
        for index in np.flatnonzero(count).tolist()
    )
