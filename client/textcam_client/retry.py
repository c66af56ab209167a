"""Retries: failures that are tried again, and their delays. Explaining is idempotent."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from typing import Any

from textcam_client._transport.peer import Peer
from textcam_client.errors import CallError, DeadlineExceeded, Overloaded, Unavailable

# If no server has ever responded, the address may be wrong, which is better reported soon.
_TRIES_WITHOUT_RESPONSE = 4
_TOO_SHORT_S = 0.1  # for another try


@dataclass(frozen=True)
class Retry:
    """Policy for retries of the two failures that are safe to retry and may pass.

    UNAVAILABLE is retried with exponential backoff. RESOURCE_EXHAUSTED is retried only if the
    server gives a time, since a message over the size limit has the same code.

    Attributes:
        attempts: Number of tries, at least 1; 1: no retries. None: as many as fit in the call's
            timeout, but four if no server has responded to this client yet.
        initial_backoff: Wait before the second try, seconds; shortened at random by up to half.
        multiplier: Growth of the wait from each try to the next.
        max_backoff: Longest wait, seconds.
    """

    attempts: int | None = None
    initial_backoff: float = 0.1
    multiplier: float = 2.0
    max_backoff: float = 1.0

    def delay_after(
        self, error: CallError, attempt: int, *, has_responded: bool = True
    ) -> float | None:
        """Return the seconds before the next try, or None if there is none.

        Args:
            error: Error of try number `attempt`.
            attempt: Number of the try, from 1.
            has_responded: True if the server has ever responded.
        """
        patience = float("inf") if has_responded else _TRIES_WITHOUT_RESPONSE
        if attempt >= (patience if self.attempts is None else self.attempts):
            return None
        if isinstance(error, Unavailable):
            return max(self._backoff(attempt), error.retry_after or 0.0)
        if isinstance(error, Overloaded) and error.retry_after is not None:
            # Never before the server's hint, and clients spread over the time after it.
            return error.retry_after + self._backoff(attempt)
        return None

    def _backoff(self, attempt: int) -> float:
        try:
            growth = float(self.multiplier) ** (attempt - 1)
        except OverflowError:  # Client.wait_ready makes thousands of tries
            growth = sys.float_info.max
        longest = min(self.max_backoff, self.initial_backoff * growth)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class Attempts:
    """Tries of one call, under one deadline.

    Args:
        retry: The policy.
        timeout: Seconds for all tries together; infinity: no limit.
        peer: The server.
    """

    def __init__(self, retry: Retry, timeout: float, peer: Peer) -> None:
        self._retry = retry
        self._peer = peer
        self._deadline = time.monotonic() + timeout
        self._made = 0

    def remaining(self) -> float | None:
        """Return the seconds until the deadline in gRPC's form: None for no limit."""
        left = self._deadline - time.monotonic()
        return None if left == float("inf") else max(left, 0.0)

    def received(self, response: Any) -> Any:
        """Return the response of a successful call, and record that the server responded.

        Raises:
            DeadlineExceeded, Unavailable: gRPC reported success without a response. This happens if
                the deadline passes while the server sends it.
        """
        self._peer.has_responded = True
        if response is not None:
            return response
        left = self.remaining()
        if left is not None and left < _TOO_SHORT_S:
            raise DeadlineExceeded("the deadline passed before the whole response arrived")
        raise Unavailable("the call ended without a response")

    def delay_after(self, error: CallError) -> float | None:
        """Return the seconds before the next try; None if `error` is final."""
        self._made += 1
        delay = self._retry.delay_after(error, self._made, has_responded=self._peer.has_responded)
        if delay is None or time.monotonic() + delay >= self._deadline:
            return None
        return delay
