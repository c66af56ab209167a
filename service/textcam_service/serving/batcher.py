"""One bounded micro-batcher in front of the session.

An item runs at once where the session is idle and no other item is on its way; while the
session is busy items gather. Expired and cancelled items leave before inference, each on
its own. Every future resolves exactly once, however a batch, a hook or the consumer ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from textcam_service.errors import DeadlineExpired, QueueFull, ShuttingDown

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_EXPIRED = "the deadline passed before inference began; allow more time"
_MIN_RETRY_S = 0.05
_FIRST_BATCH_GUESS_S = 0.1
_WAKE_S = 0.02  # a loaded loop may wake so late


@dataclass(frozen=True)
class BatchLimits:
    """How items gather; a ValueError where a value is out of range.

    Attributes:
        max_batch: Items per inference at most.
        max_delay_s: Wait for announced items at most so long.
        max_queue: Items that may wait.
    """

    max_batch: int = 8
    max_delay_s: float = 0.005
    max_queue: int = 64

    def __post_init__(self) -> None:
        for name, count in (("max_batch", self.max_batch), ("max_queue", self.max_queue)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} is {count!r}; give a whole number of at least 1")
        if not 0 <= self.max_delay_s < math.inf:
            raise ValueError(f"max_delay_s is {self.max_delay_s!r}; give finite seconds, 0 or more")


class BatcherEvents(Protocol):
    """What the batcher reports. A hook that raises harms no item; its first fault is logged."""

    def on_batch(self, size: int) -> None:
        """An inference begins."""

    def on_depth(self, depth: int) -> None:
        """The queue's length changed."""

    def on_expired(self) -> None:
        """An item's deadline passed before inference."""

    def on_cancelled(self) -> None:
        """An item's caller left: told once for each submit() that ends cancelled.

        A waiting item leaves the queue; a running one's result is discarded, its batch unharmed.
        """

    def on_rejected(self) -> None:
        """An item found the queue full."""


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """An item's result, with the seconds it waited and ran, and the size of its batch."""

    result: Result
    queue_s: float
    run_s: float
    batch_size: int


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Batched[Result]]
    deadline: float
    since: float

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Gathers items and runs them together. Lives on one event loop.

    Args:
        run: Runs a batch in `executor` and returns a result per item, in order.
        limits: See BatchLimits.
        executor: One thread, the owner of the session.
        events: Told what happens.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        executor: ThreadPoolExecutor,
        events: BatcherEvents,
    ) -> None:
        self._run = run
        self._limits = limits
        self._executor = executor
        self._events = events
        self._broken_hooks: set[Callable[..., None]] = set()
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._batch: list[_Waiting[Item, Result]] = []
        self._announced = 0
        self._changed = asyncio.Event()
        self._closing = False
        self._consumer: asyncio.Task[None] | None = None
        self._batch_s = _FIRST_BATCH_GUESS_S

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._queue)

    async def start(self) -> None:
        """Begin to consume."""
        self._consumer = asyncio.create_task(self._consume(), name="textcam-batcher")
        # Not a `finally` in the task: one that is cancelled before it began runs none.
        self._consumer.add_done_callback(self._stopped)

    @contextmanager
    def announce(self) -> Iterator[None]:
        """Say that an item is on its way, so that a batch may wait for it."""
        self._announced += 1
        try:
            yield
        finally:
            self._announced -= 1
            self._changed.set()

    async def submit(self, item: Item, deadline: float | None) -> Batched[Result]:
        """Queue an item and await its result.

        Args:
            item: For `run`.
            deadline: On time.monotonic()'s clock; None: none.

        Raises:
            QueueFull: max_queue items wait already.
            DeadlineExpired: The deadline passed before the item's inference began.
            ShuttingDown: drain() was called, or the consumer ended before the answer.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        due = math.inf if deadline is None else deadline
        self._admit(due, now)
        waiting = _Waiting(item, loop.create_future(), due, now)
        self._queue.append(waiting)
        self._report()
        if due < math.inf:
            alarm = loop.call_later(due - now, self._expire, waiting)
            waiting.future.add_done_callback(lambda _: alarm.cancel())
        try:
            return await waiting.future
        except asyncio.CancelledError:
            self._leave(waiting)
            self._tell(self._events.on_cancelled)
            raise

    def _admit(self, deadline: float, now: float) -> None:
        if self._closing or self._consumer is None or self._consumer.done():
            raise ShuttingDown("the server takes no new work; try another", retry_after_s=1.0)
        if deadline <= now:
            self._tell(self._events.on_expired)
            raise DeadlineExpired(_EXPIRED)
        if len(self._queue) >= self._limits.max_queue:
            self._tell(self._events.on_rejected)
            batches = len(self._queue) / self._limits.max_batch
            raise QueueFull(
                f"{self.depth} images wait already, the most this server queues; try again later",
                retry_after_s=max(_MIN_RETRY_S, batches * self._batch_s),
            )

    async def drain(self, timeout: float) -> None:
        """Refuse new work, finish what came within `timeout` seconds, answer ShuttingDown after."""
        self._closing = True
        self._changed.set()
        if self._consumer is not None:
            await asyncio.wait([self._consumer], timeout=timeout)
            self._consumer.cancel()
            await asyncio.wait([self._consumer])

    async def _consume(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._changed.clear()
                await self._changed.wait()
            await self._linger()
            self._take()
            if self._batch:
                await self._infer(self._batch)
                self._batch = []

    def _stopped(self, consumer: asyncio.Task[None]) -> None:
        """However the consumer ended, leave nobody waiting."""
        self._closing = True
        if not consumer.cancelled() and (error := consumer.exception()) is not None:
            _log.error("the batcher failed and takes no more work", exc_info=error)
        for waiting in (*self._batch, *self._queue):
            waiting.fail(ShuttingDown("the server stopped", retry_after_s=1.0))
        self._batch = []
        self._queue.clear()
        self._report()

    async def _linger(self) -> None:
        """Wait for announced items, but never so long that a queued one misses its deadline."""
        until = time.monotonic() + self._limits.max_delay_s
        while self._announced and 0 < len(self._queue) < self._limits.max_batch:
            earliest = min(waiting.deadline for waiting in self._queue)
            left = min(until, earliest - self._batch_s - _WAKE_S) - time.monotonic()
            if left <= 0 or self._closing:
                return
            self._changed.clear()
            # Not asyncio.wait_for(): up to Python 3.11 it can swallow a cancellation.
            alarm = asyncio.get_running_loop().call_later(left, self._changed.set)
            await self._changed.wait()
            alarm.cancel()

    def _take(self) -> None:
        while self._queue and len(self._batch) < self._limits.max_batch:
            waiting = self._queue.popleft()
            if waiting.deadline <= time.monotonic():
                self._expire(waiting)
            elif not waiting.future.done():
                self._batch.append(waiting)
        self._report()

    async def _infer(self, batch: list[_Waiting[Item, Result]]) -> None:
        self._tell(self._events.on_batch, len(batch))
        loop, started = asyncio.get_running_loop(), time.monotonic()
        items = [waiting.item for waiting in batch]
        results = await loop.run_in_executor(self._executor, self._outcome, items)
        if isinstance(results, Exception):
            for waiting in batch:
                waiting.fail(results)
            return
        run_s = time.monotonic() - started
        self._batch_s += 0.2 * (run_s - self._batch_s)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                answer = Batched(result, started - waiting.since, run_s, len(batch))
                waiting.future.set_result(answer)

    def _outcome(self, items: list[Item]) -> list[Result] | Exception:
        """Run a batch on the session's thread; a failure is the batch's, so it travels as a value.

        asyncio cannot carry a StopIteration; anything but an Exception would end the loop.
        """
        count = len(items)
        try:
            results = list(self._run(items))
        except BaseException as error:  # noqa: BLE001 - goes to the batch's callers
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                return error
            return RuntimeError(f"inference failed with {error!r}")
        if len(results) != count:
            return RuntimeError(f"{count} items ran, but {len(results)} results came")
        return results

    def _expire(self, waiting: _Waiting[Item, Result]) -> None:
        if not waiting.future.done() and waiting not in self._batch:
            waiting.fail(DeadlineExpired(_EXPIRED))
            self._tell(self._events.on_expired)
            self._leave(waiting)

    def _leave(self, waiting: _Waiting[Item, Result]) -> None:
        if waiting in self._queue:
            self._queue.remove(waiting)
            self._report()

    def _report(self) -> None:
        self._tell(self._events.on_depth, len(self._queue))
        self._changed.set()

    def _tell(self, hook: Callable[..., None], *values: int) -> None:
        try:
            hook(*values)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - no hook may harm an item
            if hook not in self._broken_hooks:
                self._broken_hooks.add(hook)
                _log.exception("%r failed; the batcher goes on", hook)
