"""Which failures are tried again, and when. Explaining is idempotent."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from typing import Any

from textcam_client._transport.peer import Peer
from textcam_client.errors import CallError, DeadlineExceeded, Overloaded, Unavailable

# Without a word from any server, the address may well be wrong: better said soon.
_TRIES_AT_NOBODY = 4
_TOO_SHORT_S = 0.1  # for another try


@dataclass(frozen=True)
class Retry:
    """Tries again what is safe and has a chance: nothing but these two.

    UNAVAILABLE is tried again with exponential backoff; RESOURCE_EXHAUSTED only where
    the server says when, since a message over the size limit has the same code.

    Attributes:
        attempts: Tries in all, at least 1; 1 never tries again. None: as many as the call's
            timeout has room for, but four of a client that no server has answered yet.
        initial_backoff: Wait before the second try, seconds; up to half of it is
            taken off at random.
        multiplier: Of the wait, from each try to the next.
        max_backoff: Longest such wait, seconds.
    """

    attempts: int | None = None
    initial_backoff: float = 0.1
    multiplier: float = 2.0
    max_backoff: float = 1.0

    def delay_after(self, error: CallError, attempt: int, *, answered: bool = True) -> float | None:
        """Seconds to wait before the next try, or None where there is to be none.

        Args:
            error: What try number `attempt` ended with.
            attempt: 1 for the first.
            answered: Whether the server is known to be there.
        """
        patience = float("inf") if answered else _TRIES_AT_NOBODY
        if attempt >= (patience if self.attempts is None else self.attempts):
            return None
        if isinstance(error, Unavailable):
            return max(self._backoff(attempt), error.retry_after or 0.0)
        if isinstance(error, Overloaded) and error.retry_after is not None:
            # Never before the server's hint, and not all clients at once after it.
            return error.retry_after + self._backoff(attempt)
        return None

    def _backoff(self, attempt: int) -> float:
        try:
            growth = float(self.multiplier) ** (attempt - 1)
        except OverflowError:  # Client.wait_ready tries thousands of times
            growth = sys.float_info.max
        longest = min(self.max_backoff, self.initial_backoff * growth)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class Attempts:
    """The tries of one call under one deadline.

    Args:
        retry: The policy.
        timeout: Seconds for all tries together; infinity for no limit.
        peer: The server that is called.
    """

    def __init__(self, retry: Retry, timeout: float, peer: Peer) -> None:
        self._retry = retry
        self._peer = peer
        self._deadline = time.monotonic() + timeout
        self._made = 0

    def remaining(self) -> float | None:
        """Seconds until the deadline, as gRPC takes them: None for no limit."""
        left = self._deadline - time.monotonic()
        return None if left == float("inf") else max(left, 0.0)

    def received(self, response: Any) -> Any:
        """The response of a call that ended well; tells that the server is there.

        Raises:
            DeadlineExceeded, Unavailable: gRPC ended it well, but without its response, as it may
                where a deadline passes while the server sends it.
        """
        self._peer.answered = True
        if response is not None:
            return response
        left = self.remaining()
        if left is not None and left < _TOO_SHORT_S:
            raise DeadlineExceeded("the deadline passed while the answer was on its way")
        raise Unavailable("the call ended without its answer")

    def delay_after(self, error: CallError) -> float | None:
        """Seconds before the next try; None where `error` is final."""
        self._made += 1
        delay = self._retry.delay_after(error, self._made, answered=self._peer.answered)
        if delay is None or time.monotonic() + delay >= self._deadline:
            return None
        return delay
