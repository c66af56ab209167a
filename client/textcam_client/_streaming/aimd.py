"""Limit of a streamed run's items in flight while its server asks to wait.

It works like TCP's congestion control: each response raises the limit a little, and each round of
rejections halves it, after a pause.
"""

from __future__ import annotations

import random

_SHORTEST = 0.02  # seconds; a hint of 0 must not cause endless requests


class AimdLimiter:
    """Limit of the items in flight, by additive increase and multiplicative decrease.

    Times are a monotonic clock's.

    Args:
        capacity: The most items in flight; the limit at the start.

    Attributes:
        resumes: Time before which nothing is sent.
    """

    def __init__(self, capacity: int) -> None:
        self.resumes = float("-inf")
        self._capacity = capacity
        self._allowed = float(capacity)
        self._slowed = float("-inf")

    def room(self, in_flight: int, now: float) -> int:
        """Return the number of items that may be sent now."""
        return max(int(self._allowed) - in_flight, 0) if now >= self.resumes else 0

    def increase(self) -> None:
        """Raise the limit by one item per round of responses."""
        self._allowed = min(self._allowed + 1 / self._allowed, self._capacity)

    def decrease(self, hint: float, launched: float, now: float) -> float:
        """Halve the limit after a rejection, and pause.

        Args:
            hint: Seconds until the next try, as the server suggests.
            launched: Time at which the item was sent. Items sent before the last decrease belong
                to the same round, which counts once.
            now: The time.

        Returns:
            Seconds until sending resumes: the hint plus up to half of it, so that callers that
            were rejected together do not return together.
        """
        if launched > self._slowed:
            self._slowed = now
            self._allowed = max(self._allowed / 2, 1.0)
        hint = max(hint, _SHORTEST)
        if now + hint > self.resumes:
            self.resumes = now + hint * random.uniform(1.0, 1.5)  # noqa: S311 - spreads load
        return self.resumes - now
