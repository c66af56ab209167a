"""Geometry of intervals that the page draws on a shared axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from textcam_client.audit.findings.model import Estimate

WIDTH = 240
"""Width of a drawn axis, in units of the drawing."""

_MARGIN = 6


@dataclass(frozen=True)
class Axis:
    """Axis from `low` to `high`, with 0 on it."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the place of a value, in units of the drawing, at most the ends."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_MARGIN + part * (WIDTH - 2 * _MARGIN), 2)


def axis(estimates: Iterable[Estimate]) -> Axis:
    """Return the axis that shows all estimates with their intervals, and 0."""
    ends = [
        end
        for own in estimates
        for end in (own.value, own.low, own.high)
        if end is not None and math.isfinite(end)
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return Axis(low, high) if high > low else Axis(0.0, 1.0)


SHARES = Axis(0.0, 1.0)
"""Axis of shares and accuracies."""
