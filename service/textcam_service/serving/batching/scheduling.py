"""Earliest deadline first: what a batch costs, who makes the next one, and when each is done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from enum import Enum
from itertools import takewhile
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


class HasDeadline(Protocol):
    """What has a deadline, in seconds of any clock."""

    @property
    def deadline(self) -> float:
        """Infinity for none."""


def _percentile_75(seen: Sequence[float]) -> float:
    """What three in four of the seen durations do not exceed.

    One slow batch does not turn callers away; but by the median half of those that are let in at
    the brim would be late.
    """
    return sorted(seen)[3 * (len(seen) - 1) // 4]


class BatchLatency:
    """Seconds that a batch takes by its size, as three in four of the last nine of that size did.

    Between measured sizes linear; above the largest in proportion; below the smallest as that. But
    no more than as many items take in batches of a size that was seen since: what was slow once,
    and so is not admitted any more, would be slow for ever.

    Args:
        guess_s: Until anything was measured.
    """

    def __init__(self, guess_s: float = 0.1) -> None:
        self._guess = guess_s
        self._seen: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}  # in the order in which sizes were last seen

    def observe(self, size: int, seconds: float) -> None:
        """A batch of `size` items took so long."""
        self._seen.setdefault(size, deque(maxlen=_REMEMBERED)).append(seconds)
        self._usual.pop(size, None)
        self._usual[size] = _percentile_75(self._seen[size])

    def of(self, size: int) -> float:
        """Seconds that a batch of `size` items will take; 0 for none."""
        if size < 1:
            return 0.0
        since = takewhile(lambda known: known != size, reversed(self._usual))
        by_others = (math.ceil(size / known) * self._usual[known] for known in since)
        return min(self._by_own_size(size), *by_others, math.inf)

    def _by_own_size(self, size: int) -> float:
        if size in self._usual:
            return self._usual[size]
        if not self._usual:
            return self._guess
        sizes = sorted(self._usual)
        if size > sizes[-1]:
            return self._usual[sizes[-1]] * size / sizes[-1]
        return float(np.interp(size, sizes, [self._usual[known] for known in sizes]))


class ResponseLatency:
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
        after = _percentile_75(self._seen[kind]) if kind in self._seen else 0.0
        return deadline - min(after + self._doubt, _MOST_FOR_ANSWER * max(deadline - now, 0.0))


def completion_times(
    count: int,
    start: float,
    cost: BatchLatency,
    max_batch: int,
    audits: int = 0,
    share: float = 0.0,
    owed: float = 0.0,
) -> list[float]:
    """When each of `count` items in a row is done, where batches begin at `start`.

    Args:
        count: Interactive items.
        start: On any clock.
        cost: Of batches.
        max_batch: Items of a batch at most.
        audits: Audit items that wait, and get their share of full batches.
        share: Of a batch's items.
        owed: Items that the share is behind.
    """
    done: list[float] = []
    full = cost.of(max_batch)
    while len(done) < count:
        first = min(count - len(done), max_batch)
        displaced = _displaced(first, audits, owed, max_batch)
        first -= displaced
        start += full if first + displaced == max_batch else cost.of(first)
        done += [start] * first
        audits -= displaced
        owed = min(max(owed + share * (first + displaced) - displaced, 0.0), max_batch)
    return done


def _displaced(interactive: int, audits: int, owed: float, max_batch: int) -> int:
    """How many of a batch's interactive items the audit lane's share is to displace."""
    return max(0, min(int(owed), audits) - (max_batch - interactive))


def choose_batch(
    interactive: Sequence[HasDeadline],
    audit: Sequence[HasDeadline],
    now: float,
    cost: BatchLatency,
    max_batch: int,
    owed: float,
) -> tuple[int, int]:
    """How many of each lane's first items make the next batch.

    Interactive items first, audit items where there is room. The audit lane's share may displace
    interactive items, but none that will be late for it; and no audit item makes a batch so much
    longer that an interactive one in it is late.

    Args:
        interactive: Ready items, in their order.
        audit: Likewise.
        now: On the deadlines' clock.
        cost: Of batches.
        max_batch: Items of a batch at most.
        owed: Items that the audit lane's share is behind.
    """
    first = min(len(interactive), max_batch)
    displaced = _displaced(first, len(audit), owed, max_batch)
    undisturbed = completion_times(len(interactive) if displaced else 0, now, cost, max_batch)
    while displaced:
        begin = first - displaced
        behind, before = interactive[begin:], undisturbed[begin:]
        after = completion_times(len(behind), now + cost.of(max_batch), cost, max_batch)
        times = zip(before, behind, after, strict=True)
        if not any(early <= item.deadline < late for early, item, late in times):
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
