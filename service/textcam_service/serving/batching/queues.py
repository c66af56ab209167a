"""Queues of waiting items: by lane, earliest deadline first, the audit lane with its share.

Items without a deadline, or with a distant one, run in the order of arrival.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from textcam_service.serving.batching.deadlines import BatchLimits, DeadlineCheck, QueueItem, rank
from textcam_service.serving.batching.latency import BatchLatency
from textcam_service.serving.batching.scheduling import Lane, choose_batch

Item = TypeVar("Item", bound=QueueItem)


class Queues(Generic[Item]):
    """Queues of both lanes. They read no clock: each call gets `now`.

    Attributes:
        deadlines: Check of whether one more item can be admitted.
    """

    def __init__(self, limits: BatchLimits, latency: BatchLatency) -> None:
        self._limits = limits
        self._latency = latency
        # Sorted by rank; equal ranks in the order of arrival.
        self._lanes: dict[Lane, list[Item]] = {lane: [] for lane in Lane}
        self.deadlines = DeadlineCheck(self._lanes, limits, latency)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Item]:
        return (item for queue in self._lanes.values() for item in queue)

    @property
    def ready(self) -> int:
        """Items that can run."""
        return sum(item.is_ready for item in self)

    def pressure(self, lane: Lane) -> float:
        """Return how full a lane's queue is, 0 .. 1."""
        return len(self._lanes[lane]) / self._limits.max_queue

    def add(self, item: Item) -> None:
        """Queue an item that DeadlineCheck.check() accepted."""
        insort(self._lanes[item.lane], item, key=rank)

    def discard(self, item: Item) -> bool:
        """Remove an item; return False if it is not queued."""
        if item not in self._lanes[item.lane]:
            return False
        self._lanes[item.lane].remove(item)
        return True

    def take(self, now: float) -> list[Item]:
        """Remove and return the next batch; see choose_batch()."""
        most = self._limits.max_batch
        interactive, audit = (
            [item for item in self._lanes[lane] if item.is_ready]
            for lane in (Lane.INTERACTIVE, Lane.AUDIT)
        )
        first, joining = choose_batch(
            interactive, audit, now, self._latency, most, self.deadlines.audit_deficit
        )
        batch = interactive[:first] + audit[:joining]
        for item in batch:
            self._lanes[item.lane].remove(item)
        earned = self.deadlines.audit_deficit + self._limits.audit_share * len(batch) - joining
        self.deadlines.audit_deficit = min(max(earned, 0.0), most) if len(audit) > joining else 0.0
        return batch
