"""Deadlines of waiting items: forecasts, and refusals of items that would be late."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from textcam_service.errors import DeadlineExpired, DeadlineUnreachable, QueueFull
from textcam_service.serving.batching.latency import BatchLatency
from textcam_service.serving.batching.scheduling import Lane, completion_times

EXPIRED = "the deadline passed before inference began; set a longer deadline"
_MIN_RETRY_S = 0.05
# For the order alone, no deadline is later than this after admission. So no item waits behind items
# that came so much later.
_MAX_RANK_S = 60.0
_IDLE_FACTOR = 0.5  # an idle session accepts items that have this part of the predicted time left
_TRUST_S = 1.0  # and every item, if no batch was observed for so long


@dataclass(frozen=True)
class BatchLimits:
    """Limits of batches and queues.

    Attributes:
        max_batch: Maximum items per inference.
        max_delay_s: Maximum seconds to wait for admitted items that are being prepared.
        max_queue: Maximum items of a lane that are admitted and not yet running.
        audit_share: Part of each batch that audit items get even when interactive items wait,
            0 .. 1.

    Raises:
        ValueError: A value is out of range.
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
    """A queued item.

    Attributes:
        deadline: Deadline on the queues' clock; infinity if there is none.
        admitted: When it was admitted, on that clock.
        lane: Its lane.
        is_ready: Whether it can run.
    """

    deadline: float
    admitted: float
    lane: Lane

    @property
    def is_ready(self) -> bool:
        """True if it can run."""


def rank(item: QueueItem) -> float:
    """Return an item's place in the order of its lane: by deadline, within a minute of arrival."""
    return min(item.deadline, item.admitted + _MAX_RANK_S)


class DeadlineCheck:
    """Refuses items that would be late, or make others late. It reads no clock.

    Args:
        lanes: The waiting items of each lane, sorted by rank().
        limits: Limits of batches and queues.
        latency: Durations of batches.

    Attributes:
        idle_at: When the session is predicted to be idle; None while it is idle.
        observed_at: When a batch's duration was last observed.
        audit_deficit: Number of items by which the audit lane is behind its share.
    """

    def __init__(
        self, lanes: Mapping[Lane, Sequence[QueueItem]], limits: BatchLimits, latency: BatchLatency
    ) -> None:
        self.idle_at: float | None = None
        self.observed_at = -math.inf
        self.audit_deficit = 0.0
        self._lanes = lanes
        self._limits = limits
        self._latency = latency

    def check(self, deadline: float, lane: Lane, now: float, max_wait_s: float = math.inf) -> None:
        """Check that one more item can be admitted.

        Raises:
            QueueFull: max_queue items of the lane wait already, or the items ahead would make this
                one wait longer than max_wait_s.
            DeadlineUnreachable: After the items ahead it would be late, or it would make another
                item late.
            DeadlineExpired: The deadline has passed, or even an idle session could not meet it.
        """
        waiting = len(self._lanes[lane])
        if waiting >= self._limits.max_queue:
            last = self._completion_times(lane, waiting, now)[-1]
            raise QueueFull(
                f"{waiting} images are waiting, the maximum of this server's queue; retry later",
                retry_after_s=max(_MIN_RETRY_S, last - now),
            )
        if deadline <= now:
            raise DeadlineExpired(EXPIRED)
        if self.idle_at is None and not self._waiting:
            self._check_idle(deadline - now, now)
            return
        done, delay = self._predict(deadline, lane, now)
        late = max(done - deadline, delay)
        if late > 0:
            subject = "the response" if late > delay else "another request's response"
            raise DeadlineUnreachable(
                f"with {self._waiting} images waiting, {subject} would be {late:.3f} s too late; "
                "retry later, or set a longer deadline",
                retry_after_s=max(_MIN_RETRY_S, late),
            )
        if done - now > max_wait_s:
            raise QueueFull(
                f"with {self._waiting} images waiting, inference would end after "
                f"{done - now:.3f} s; "
                f"this server allows at most {max_wait_s:.3f} s; retry later",
                retry_after_s=max(_MIN_RETRY_S, done - now - max_wait_s),
            )

    def _check_idle(self, left: float, now: float) -> None:
        # Only a run corrects a wrong prediction; a rejected item teaches nothing.
        alone = self._latency.of(1)
        if left < _IDLE_FACTOR * alone and now - self.observed_at < _TRUST_S:
            raise DeadlineExpired(
                f"the deadline is {left:.2g} s away, but a single image takes about {alone:.2g} s; "
                "set a longer deadline"
            )

    def _predict(self, deadline: float, lane: Lane, now: float) -> tuple[float, float]:
        """Predict when one more item would be done, and how late it would make another item.

        Returns:
            The completion time, and the largest delay in seconds of an item that would otherwise be
            in time; negative or -infinity if no item would be late.
        """
        queue = self._lanes[lane]
        at = bisect_right(queue, min(deadline, now + _MAX_RANK_S), key=rank)
        without = self._completion_times(lane, len(queue), now)
        done = self._completion_times(lane, len(queue) + 1, now)
        # Including the items ahead: the new one may make their batch longer.
        others = zip(queue, without, done[:at] + done[at + 1 :], strict=True)
        delays = (
            after - item.deadline for item, before, after in others if before <= item.deadline
        )
        return done[at], max(delays, default=-math.inf)

    def _completion_times(self, lane: Lane, count: int, now: float) -> list[float]:
        """Predict when each of the first `count` items of a lane will be done."""
        start = now if self.idle_at is None else max(now, self.idle_at)
        most, share = self._limits.max_batch, self._limits.audit_share
        if lane is Lane.INTERACTIVE:
            audits = len(self._lanes[Lane.AUDIT])
            return completion_times(
                count, start, self._latency, most, audits, share, self.audit_deficit
            )
        ahead = len(self._lanes[Lane.INTERACTIVE])
        done = completion_times(ahead + count, start, self._latency, most)[ahead:]
        if not share:
            return done
        full = self._latency.of(most)  # at the latest, by the lane's share of full batches
        shared = (start + math.ceil((index + 1) / (share * most)) * full for index in range(count))
        return [min(times) for times in zip(done, shared, strict=True)]

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._lanes.values()))
