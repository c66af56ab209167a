"""What waits for inference: by lane, earliest deadline first, and no more than can be in time.

Where deadlines are far, or there are none, items go as they came.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from textcam_service.errors import DeadlineExpired, DeadlineUnreachable, QueueFull
from textcam_service.serving.batching.scheduling import (
    BatchLatency,
    Lane,
    choose_batch,
    completion_times,
)

EXPIRED = "the deadline passed before inference began; allow more time"
_MIN_RETRY_S = 0.05
# Nobody waits behind items that came so much later: for the order alone, a deadline is no further.
_PATIENCE_S = 60.0
_IDLE_DOUBT = 0.5  # an idle session takes what could be done in this part of the predicted time
_TRUST_S = 1.0  # and anything once nothing has run for so long


@dataclass(frozen=True)
class BatchLimits:
    """How items gather; a ValueError where a value is out of range.

    Attributes:
        max_batch: Items per inference at most.
        max_delay_s: Wait for admitted items that are being made at most so long.
        max_queue: Items of a lane that may be admitted and not yet run.
        audit_share: Of each batch's items, the part that audit items get even when interactive
            ones wait, 0 .. 1.
    """

    max_batch: int = 8
    max_delay_s: float = 0.005
    max_queue: int = 64
    audit_share: float = 0.2

    def __post_init__(self) -> None:
        for name, count in (("max_batch", self.max_batch), ("max_queue", self.max_queue)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} is {count!r}; give a whole number of at least 1")
        if not 0 <= self.max_delay_s < math.inf:
            raise ValueError(f"max_delay_s is {self.max_delay_s!r}; give finite seconds, 0 or more")
        if not 0 <= self.audit_share <= 1:
            raise ValueError(f"audit_share is {self.audit_share!r}; give 0 to 1")


class QueueItem(Protocol):
    """What waits.

    Attributes:
        deadline: On the queues' clock; infinity for none.
        admitted: When it came, on that clock.
        lane: Its lane.
        is_ready: Whether it can run.
    """

    deadline: float
    admitted: float
    lane: Lane

    @property
    def is_ready(self) -> bool:
        """Whether it can run."""


Item = TypeVar("Item", bound=QueueItem)


class Queues(Generic[Item]):
    """The lanes' queues. Knows no clock: `now` is given.

    Attributes:
        free_at: When the session is predicted to be free; None while it is.
        learnt_at: When a batch was last seen to take its time.
    """

    def __init__(self, limits: BatchLimits, cost: BatchLatency) -> None:
        self.free_at: float | None = None
        self.learnt_at = -math.inf
        self._limits = limits
        self._cost = cost
        # By rank; those of one rank as they came.
        self._lanes: dict[Lane, list[Item]] = {lane: [] for lane in Lane}
        self._owed = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Item]:
        return (item for queue in self._lanes.values() for item in queue)

    @property
    def ready(self) -> int:
        """Items that can run."""
        return sum(item.is_ready for item in self)

    def pressure(self, lane: Lane) -> float:
        """How full a lane's queue is, 0 .. 1."""
        return len(self._lanes[lane]) / self._limits.max_queue

    def add(self, item: Item) -> None:
        """Queue what require() let in."""
        insort(self._lanes[item.lane], item, key=_rank)

    def discard(self, item: Item) -> bool:
        """Take an item out; False where it is not in."""
        if item not in self._lanes[item.lane]:
            return False
        self._lanes[item.lane].remove(item)
        return True

    def take(self, now: float) -> list[Item]:
        """Take the next batch out; see choose_batch()."""
        most = self._limits.max_batch
        interactive, audit = (
            [item for item in self._lanes[lane] if item.is_ready]
            for lane in (Lane.INTERACTIVE, Lane.AUDIT)
        )
        first, joining = choose_batch(interactive, audit, now, self._cost, most, self._owed)
        batch = interactive[:first] + audit[:joining]
        for item in batch:
            self._lanes[item.lane].remove(item)
        earned = self._owed + self._limits.audit_share * len(batch) - joining
        self._owed = min(max(earned, 0.0), most) if len(audit) > joining else 0.0
        return batch

    def require(
        self, deadline: float, lane: Lane, now: float, max_wait_s: float = math.inf
    ) -> None:
        """Check that an item could join.

        Raises:
            QueueFull: max_queue items of the lane wait already, or by the time of those ahead it
                would be done in over max_wait_s.
            DeadlineUnreachable: By the time of those ahead, it would be late, or make another late.
            DeadlineExpired: The deadline has passed, or no idle session could meet it.
        """
        waiting = len(self._lanes[lane])
        if waiting >= self._limits.max_queue:
            last = self._finish_times(lane, waiting, now)[-1]
            raise QueueFull(
                f"{waiting} images wait already, the most this server queues; try again later",
                retry_after_s=max(_MIN_RETRY_S, last - now),
            )
        if deadline <= now:
            raise DeadlineExpired(EXPIRED)
        if self.free_at is None and not len(self):
            self._require_idle(deadline - now, now)
            return
        done, delay = self._prospect(deadline, lane, now)
        late = max(done - deadline, delay)
        if late > 0:
            whose = "the answer" if late > delay else "another's answer"
            raise DeadlineUnreachable(
                f"with {len(self)} images waiting {whose} would come {late:.3f} s too late; "
                "try again later, or allow more time",
                retry_after_s=max(_MIN_RETRY_S, late),
            )
        if done - now > max_wait_s:
            raise QueueFull(
                f"with {len(self)} images waiting inference would end after {done - now:.3f} s, "
                f"and this server lets nobody wait over {max_wait_s:.3f} s for it; try again later",
                retry_after_s=max(_MIN_RETRY_S, done - now - max_wait_s),
            )

    def _require_idle(self, left: float, now: float) -> None:
        # A prediction that is wrong is mended only by running: what it refuses teaches nothing.
        alone = self._cost.of(1)
        if left < _IDLE_DOUBT * alone and now - self.learnt_at < _TRUST_S:
            raise DeadlineExpired(
                f"the deadline is {left:.3f} s away, but an image alone takes about {alone:.3f} s; "
                "allow more time"
            )

    def _prospect(self, deadline: float, lane: Lane, now: float) -> tuple[float, float]:
        """When one more item is done, and by how many seconds it makes another late, if any."""
        queue = self._lanes[lane]
        at = bisect_right(queue, min(deadline, now + _PATIENCE_S), key=_rank)
        without = self._finish_times(lane, len(queue), now)
        done = self._finish_times(lane, len(queue) + 1, now)
        # Those ahead too: it may make their batch longer.
        others = zip(queue, without, done[:at] + done[at + 1 :], strict=True)
        delays = (
            after - item.deadline for item, before, after in others if before <= item.deadline
        )
        return done[at], max(delays, default=-math.inf)

    def _finish_times(self, lane: Lane, count: int, now: float) -> list[float]:
        """When `count` items of a lane will be done, place by place."""
        start = now if self.free_at is None else max(now, self.free_at)
        most, share = self._limits.max_batch, self._limits.audit_share
        if lane is Lane.INTERACTIVE:
            audits = len(self._lanes[Lane.AUDIT])
            return completion_times(count, start, self._cost, most, audits, share, self._owed)
        ahead = len(self._lanes[Lane.INTERACTIVE])
        done = completion_times(ahead + count, start, self._cost, most)[ahead:]
        if not share:
            return done
        full = self._cost.of(most)  # at the latest by its share of full batches
        shared = (start + math.ceil((place + 1) / (share * most)) * full for place in range(count))
        return [min(times) for times in zip(done, shared, strict=True)]


def _rank(item: QueueItem) -> float:
    return min(item.deadline, item.admitted + _PATIENCE_S)
