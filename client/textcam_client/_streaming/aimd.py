"""Limit of a streamed run's items in flight while its server says "later".

It works as TCP shares a line: each answer lets the run send
a little more at once, each round of refusals half as much, after a pause.
"""

from __future__ import annotations

import random

_SHORTEST = 0.02  # a hint of nothing is no licence to ask without end


class AimdLimiter:
    """Limit of the items in flight, by additive increase and multiplicative decrease.

    Times are a monotonic clock's.

    Args:
        capacity: The most items in flight, and how many there may be at first.

    Attributes:
        resumes: Nothing is sent before.
    """

    def __init__(self, capacity: int) -> None:
        self.resumes = float("-inf")
        self._capacity = capacity
        self._allowed = float(capacity)
        self._slowed = float("-inf")

    def room(self, in_flight: int, now: float) -> int:
        """Return how many more may be sent now."""
        return max(int(self._allowed) - in_flight, 0) if now >= self.resumes else 0

    def increase(self) -> None:
        """Allow a little more: one item more once all that are allowed were answered."""
        self._allowed = min(self._allowed + 1 / self._allowed, self._capacity)

    def decrease(self, hint: float, launched: float, now: float) -> float:
        """Allow half as much, after a pause: an item was refused.

        Args:
            hint: Seconds after which the server suggests another try.
            launched: When the item was sent. What was sent before the last slowing down
                belongs to the same round, which counts once.
            now: The time.

        Returns:
            Seconds until sending resumes: the hint, and up to half of it more, lest all
            callers that were refused together come back together.
        """
        if launched > self._slowed:
            self._slowed = now
            self._allowed = max(self._allowed / 2, 1.0)
        hint = max(hint, _SHORTEST)
        if now + hint > self.resumes:
            self.resumes = now + hint * random.uniform(1.0, 1.5)  # noqa: S311 - spreads load
        return self.resumes - now
