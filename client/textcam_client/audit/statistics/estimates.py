"""Numbers with their intervals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Number with its interval.

    Attributes:
        value: Point estimate.
        low: Lower end; None: it cannot be computed (see `note`).
        high: Upper end; None as `low`.
        note: Reason for a missing interval, as a sentence; "": there is one.
    """

    value: float
    low: float | None
    high: float | None
    note: str = ""
