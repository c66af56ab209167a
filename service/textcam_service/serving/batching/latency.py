"""Latency estimates: how long batches take by size, and responses after their inference."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from itertools import takewhile

import numpy as np

_BATCHES_REMEMBERED = 9
_RESPONSES_REMEMBERED = 32
# With a margin of half a cycle, the two balance where one response in 200 is late.
_LATE_STEP, _IN_TIME_DECAY = 0.2, 0.002
_MAX_RESPONSE_SHARE = 0.5  # of the time until the deadline


def _percentile_75(durations: Sequence[float]) -> float:
    """Return the 75th percentile of the observed durations.

    A single slow batch then causes no rejections. The median would be too low: half of the
    requests admitted at the limit would be late.
    """
    return sorted(durations)[3 * (len(durations) - 1) // 4]


class BatchLatency:
    """Estimated seconds of a batch by its size: the 75th percentile of the last nine of that size.

    Estimates are linear between measured sizes. They grow in proportion above the largest and are
    constant below the smallest. No estimate exceeds the time of as many items in batches of a size
    that was observed more recently. Otherwise a size that was slow once would be rejected, and so
    never measured again.

    Args:
        guess_s: The estimate before anything was measured.
    """

    def __init__(self, guess_s: float = 0.1) -> None:
        self._guess = guess_s
        self._samples: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}  # in the order in which sizes were last observed
        self._estimates: dict[int, float] = {}  # by size, since the last observation

    def observe(self, size: int, seconds: float) -> None:
        """Record the duration of a batch of `size` items."""
        self._samples.setdefault(size, deque(maxlen=_BATCHES_REMEMBERED)).append(seconds)
        self._usual.pop(size, None)
        self._usual[size] = _percentile_75(self._samples[size])
        self._estimates.clear()

    def of(self, size: int) -> float:
        """Return the expected seconds of a batch of `size` items; 0 for an empty one."""
        if size < 1:
            return 0.0
        known = self._estimates.get(size)
        if known is None:
            known = self._estimates[size] = self._estimate(size)
        return known

    def _estimate(self, size: int) -> float:
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
    """Estimated seconds from the end of inference to the response, by kind of response.

    The estimate is the 75th percentile of the last 32 responses of a kind. The caller defines the
    kinds, so that responses of one kind take about the same time. A safety margin covers what the
    estimate misses, such as the network to a busy client. The margin grows with each late response
    and shrinks slowly with each response in time.
    """

    def __init__(self) -> None:
        self._samples: dict[Hashable, deque[float]] = {}
        self._usual: dict[Hashable, float] = {}
        self._safety_margin = 0.0

    def observe(self, kind: Hashable, seconds: float) -> None:
        """Record the seconds from the end of inference to a response."""
        samples = self._samples.setdefault(kind, deque(maxlen=_RESPONSES_REMEMBERED))
        samples.append(seconds)
        self._usual[kind] = _percentile_75(samples)

    def record_outcome(self, late: bool, cycle_s: float) -> None:
        """Adapt the safety margin to the end of an admitted request.

        Args:
            late: True if the response came after the time that the client waits.
            cycle_s: Seconds of one full batch, the upper limit of the margin.
        """
        added = _LATE_STEP * cycle_s if late else -_IN_TIME_DECAY * self._safety_margin
        self._safety_margin = min(self._safety_margin + added, cycle_s)

    def inference_deadline(self, kind: Hashable, deadline: float, now: float) -> float:
        """Return the time by which inference must end for a response in time.

        Inference gets at least half of the time that is left. An estimate that rejected every
        request could never be corrected, because only executed requests are observed.

        Args:
            kind: Kind of the response.
            deadline: Deadline of the response, on the clock of `now`.
            now: Current time.
        """
        after = self._usual.get(kind, 0.0)
        left = max(deadline - now, 0.0)
        return deadline - min(after + self._safety_margin, _MAX_RESPONSE_SHARE * left)
