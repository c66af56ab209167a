"""Settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AuditSettings:
    """Settings of a run.

    Attributes:
        model: Served model; None: the client's, or the only one.
        version: Its version; None: the served one. It is kept to the end of the audit.
        method: CAM method; None: the model's default.
        max_phrases: Most phrases of an answer; the concepts of the audit are the phrases said.
        floor: A channel is kept in a record if its evidence is at least this part of the sum of
            all channels' absolute evidence.
        may_degrade: Accept smaller answers from a server under pressure; their records are marked.
        concurrency: The most images in flight.
        patience_s: Seconds that a server may be away before the run stops.
        timeout_s: Seconds for one answer.
        segment_rows: Rows of one file of finished records; a killed process loses at most these.

    Raises:
        ValueError: A number is out of range.
    """

    model: str | None = None
    version: str | None = None
    method: str | None = None
    max_phrases: int = 8
    floor: float = 0.001
    may_degrade: bool = False
    concurrency: int = 16
    patience_s: float = 900.0
    timeout_s: float = 30.0
    segment_rows: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor is from 0 to below 1, not {self.floor}")
        if min(self.concurrency, self.segment_rows, self.max_phrases) < 1:
            raise ValueError("concurrency, segment_rows and max_phrases are at least 1")
        if self.patience_s < 0 or self.timeout_s <= 0:
            raise ValueError("patience_s is 0 or more, and timeout_s above 0")

    def of_records(self) -> dict[str, Any]:
        """Return the settings that change what is in a record."""
        names = ("method", "max_phrases", "floor", "may_degrade")
        return {name: getattr(self, name) for name in names}
