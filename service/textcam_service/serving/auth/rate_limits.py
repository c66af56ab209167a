"""Rate limits of callers: a token bucket each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from textcam_service.errors import RateLimited
from textcam_service.serving.auth.authentication import Principal

_MAX_BUCKETS = 10_000


class RateLimiter:
    """A token bucket per caller; beyond 10,000 callers, the least recently seen is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def charge(self, caller: Principal, count: int) -> None:
        """Take `count` tokens out of a caller's bucket.

        A count above the bucket's size passes if the bucket is full, and leaves a debt. Otherwise
        a large batch could never pass.

        Raises:
            RateLimited: The bucket holds too few tokens; the error says when to retry.
        """
        if not caller.rate or not count:
            return
        now = self._clock()
        level, then = self._levels.get(caller.name, (float(caller.burst), now))
        level = min(caller.burst, level + (now - then) * caller.rate)
        missing = min(count, caller.burst) - level
        if missing > 0:
            wait_s = missing / caller.rate
            raise RateLimited(
                f"the rate limit is {caller.rate:g} per second with a burst of {caller.burst}; "
                f"retry in {wait_s:.3g} s",
                retry_after_s=wait_s,
            )
        self._levels[caller.name] = (level - count, now)
        self._levels.move_to_end(caller.name)
        if len(self._levels) > _MAX_BUCKETS:
            self._levels.popitem(last=False)
