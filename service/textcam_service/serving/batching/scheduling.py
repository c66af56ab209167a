"""Earliest deadline first: the composition of the next batch, and predicted completion times."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from textcam_service.serving.batching.latency import BatchLatency


class Lane(Enum):
    """Priority class of a request: interactive use, or an audit over a data set."""

    INTERACTIVE = "interactive"
    AUDIT = "audit"


class HasDeadline(Protocol):
    """An object with a deadline, in seconds of any clock."""

    @property
    def deadline(self) -> float:
        """Infinity if there is no deadline."""


def completion_times(
    count: int,
    start: float,
    latency: BatchLatency,
    max_batch: int,
    audits: int = 0,
    share: float = 0.0,
    deficit: float = 0.0,
) -> list[float]:
    """Predict when each of `count` queued items is done.

    Args:
        count: Number of interactive items.
        start: When the first batch begins, on any clock.
        latency: Latency of batches by size.
        max_batch: Maximum items of a batch.
        audits: Number of waiting audit items, which get their share of full batches.
        share: The audit lane's share of each batch, 0 .. 1.
        deficit: Number of items by which the audit lane is behind its share so far.
    """
    done: list[float] = []
    full = latency.of(max_batch)
    while len(done) < count:
        first = min(count - len(done), max_batch)
        displaced = _displaced(first, audits, deficit, max_batch)
        first -= displaced
        start += full if first + displaced == max_batch else latency.of(first)
        done += [start] * first
        audits -= displaced
        deficit = min(max(deficit + share * (first + displaced) - displaced, 0.0), max_batch)
    return done


def _displaced(interactive: int, audits: int, deficit: float, max_batch: int) -> int:
    """Return how many interactive items of a batch give way to audit items."""
    return max(0, min(int(deficit), audits) - (max_batch - interactive))


def choose_batch(
    interactive: Sequence[HasDeadline],
    audit: Sequence[HasDeadline],
    now: float,
    latency: BatchLatency,
    max_batch: int,
    deficit: float,
) -> tuple[int, int]:
    """Return how many items at the head of each lane form the next batch.

    Interactive items go first; audit items fill the rest. The audit lane's share may displace
    interactive items, but none that would be late because of it. Nor does an audit item join a
    batch if that makes an interactive item of the batch late.

    Args:
        interactive: Ready interactive items, in queue order.
        audit: Ready audit items, in queue order.
        now: Current time, on the deadlines' clock.
        latency: Latency of batches by size.
        max_batch: Maximum items of a batch.
        deficit: Number of items by which the audit lane is behind its share.
    """
    first = min(len(interactive), max_batch)
    displaced = _displaced(first, len(audit), deficit, max_batch)
    undisturbed = completion_times(len(interactive) if displaced else 0, now, latency, max_batch)
    while displaced:
        begin = first - displaced
        behind, before = interactive[begin:], undisturbed[begin:]
        after = completion_times(len(behind), now + latency.of(max_batch), latency, max_batch)
        times = zip(before, behind, after, strict=True)
        if not any(early <= item.deadline < late for early, item, late in times):
            break
        displaced -= 1
    first -= displaced
    joining = min(len(audit), max_batch - first)
    if first:
        left = min(item.deadline for item in interactive[:first]) - now
        if latency.of(first) <= left:
            while joining and latency.of(first + joining) > left:
                joining -= 1
    return first, joining
