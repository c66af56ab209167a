"""Earliest deadline first: what a batch costs, who makes the next one, and when each is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Protocol

import numpy as np

_REMEMBERED = 9
_ANSWERS_REMEMBERED = 32
_DOUBTED, _REGAINED = 0.2, 0.002  # in balance, at half a turn, where one in 200 is late
_MOST_FOR_ANSWER = 0.5  # of the time that is left


class Lane(Enum):
    """Who waits: a person or a service, or an audit over a data set."""

    INTERACTIVE = "interactive"
    AUDIT = "audit"


class Timed(Protocol):
    """What has a deadline, in seconds of any clock."""

    @property
    def deadline(self) -> float:
        """Infinity for none."""


def _mostly(seen: Sequence[float]) -> float:
    """What three in four of the seen durations do not exceed.

    One slow batch does not turn callers away; but by the median half of those that are let in at
    the brim would be late.
    """
    return sorted(seen)[3 * (len(seen) - 1) // 4]


class BatchCost:
    """Seconds that a batch takes by its size, as three in four of the last nine of that size did.

    Between measured sizes linear; above the largest in proportion; below the smallest as that.

    Args:
        guess_s: Until anything was measured.
    """

    def __init__(self, guess_s: float = 0.1) -> None:
        self._guess = guess_s
        self._seen: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}

    def observe(self, size: int, seconds: float) -> None:
        """A batch of `size` items took so long."""
        self._seen.setdefault(size, deque(maxlen=_REMEMBERED)).append(seconds)
        self._usual[size] = _mostly(self._seen[size])

    def of(self, size: int) -> float:
        """Seconds that a batch of `size` items will take; 0 for none."""
        if size < 1:
            return 0.0
        if size in self._usual:
            return self._usual[size]
        if not self._usual:
            return self._guess
        sizes = sorted(self._usual)
        if size > sizes[-1]:
            return self._usual[sizes[-1]] * size / sizes[-1]
        return float(np.interp(size, sizes, [self._usual[known] for known in sizes]))


class AnswerTimes:
    """Seconds that answers of a kind take after their inference, as three in four of the last 32.

    What is a kind, the caller knows: answers that take much the same time. What predictions
    overlook, such as the way to a busy caller and back, is made up for by doubt: each answer that
    was late all the same adds to it, each that was not takes a little of it away.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, deque[float]] = {}
        self._doubt = 0.0

    def observe(self, kind: Hashable, seconds: float) -> None:
        """An answer took so long."""
        self._seen.setdefault(kind, deque(maxlen=_ANSWERS_REMEMBERED)).append(seconds)

    def ended(self, late: bool, turn_s: float) -> None:
        """An admitted request is over.

        Args:
            late: Whether it took longer than its caller waits.
            turn_s: What a full batch takes, which doubt never exceeds.
        """
        added = _DOUBTED * turn_s if late else -_REGAINED * self._doubt
        self._doubt = min(self._doubt + added, turn_s)

    def due(self, kind: Hashable, deadline: float, now: float) -> float:
        """When an answer's inference must be over, for the answer to be in time.

        At least half the time that is left goes to the inference: an estimate that refused all
        would never be mended, for only what runs is observed.

        Args:
            kind: Of the answer.
            deadline: On the clock of `now`.
            now: On that clock.
        """
        after = _mostly(self._seen[kind]) if kind in self._seen else 0.0
        return deadline - min(after + self._doubt, _MOST_FOR_ANSWER * max(deadline - now, 0.0))


def finish_times(count: int, start: float, cost: BatchCost, max_batch: int) -> list[float]:
    """When each of `count` items in a row is done, where batches begin at `start`."""
    full, whole = cost.of(max_batch), count // max_batch
    last = cost.of(count % max_batch)
    return [
        start + (batch + 1) * full if batch < whole else start + whole * full + last
        for batch in (place // max_batch for place in range(count))
    ]


def choose_batch(
    interactive: Sequence[Timed],
    audit: Sequence[Timed],
    now: float,
    cost: BatchCost,
    max_batch: int,
    owed: float,
) -> tuple[int, int]:
    """How many of each lane's first items make the next batch.

    Interactive items first, audit items where there is room. The audit lane's share may displace
    interactive items, but only where all that are left behind will still be in time; and no audit
    item makes a batch so much longer that an interactive one in it is late.

    Args:
        interactive: Ready items, in their order.
        audit: Likewise.
        now: On the deadlines' clock.
        cost: Of batches.
        max_batch: Items of a batch at most.
        owed: Items that the audit lane's share is behind.
    """
    first = min(len(interactive), max_batch)
    displaced = max(0, min(int(owed), len(audit)) - (max_batch - first))
    while displaced:
        behind = interactive[first - displaced :]
        done = finish_times(len(behind), now + cost.of(max_batch), cost, max_batch)
        if all(at <= item.deadline for at, item in zip(done, behind, strict=True)):
            break
        displaced -= 1
    first -= displaced
    joining = min(len(audit), max_batch - first)
    if first:
        left = min(item.deadline for item in interactive[:first]) - now
        if cost.of(first) <= left:
            while joining and cost.of(first + joining) > left:
                joining -= 1
    return first, joining
