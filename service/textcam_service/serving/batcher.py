"""One bounded micro-batcher in front of the session.

An item runs at once where the session is idle and no other item is on its way; while the
session is busy items gather. Expired and cancelled items leave before inference, each on
its own, and every future resolves exactly once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from textcam_service.errors import DeadlineExpired, QueueFull, ShuttingDown

Item = TypeVar("Item")
Result = TypeVar("Result")

_MIN_RETRY_S = 0.05
_FIRST_BATCH_GUESS_S = 0.1


@dataclass(frozen=True)
class BatchLimits:
    """How items gather.

    Attributes:
        max_batch: Items per inference at most.
        max_delay_s: Wait for announced items at most so long.
        max_queue: Items that may wait.
    """

    max_batch: int = 8
    max_delay_s: float = 0.005
    max_queue: int = 64


class BatcherEvents(Protocol):
    """What the batcher reports."""

    def on_batch(self, size: int) -> None:
        """An inference begins."""

    def on_depth(self, depth: int) -> None:
        """The queue's length changed."""

    def on_expired(self) -> None:
        """An item's deadline passed before inference."""

    def on_cancelled(self) -> None:
        """An item's caller left before inference."""

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
    deadline: float | None
    since: float
    future: asyncio.Future[Batched[Result]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher(Generic[Item, Result]):
    """Gathers items and runs them together. Lives on one event loop."""

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        executor: ThreadPoolExecutor,
        events: BatcherEvents,
    ) -> None:
        """Prepare; start() begins.

        Args:
            run: Runs a batch in `executor` and returns a result per item, in order.
            limits: See BatchLimits.
            executor: One thread, the owner of the session.
            events: Told what happens.
        """
        self._run = run
        self._limits = limits
        self._executor = executor
        self._events = events
        self._queue: deque[_Waiting[Item, Result]] = deque()
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
            ShuttingDown: drain() was called.
        """
        now = time.monotonic()
        if self._closing or self._consumer is None or self._consumer.done():
            raise ShuttingDown("the server takes no new work; try another", retry_after_s=1.0)
        if deadline is not None and deadline <= now:
            self._events.on_expired()
            raise _expired()
        if len(self._queue) >= self._limits.max_queue:
            self._events.on_rejected()
            batches = len(self._queue) / self._limits.max_batch
            raise QueueFull(
                f"{len(self._queue)} images wait already, the most this server queues; "
                "try again after the given delay",
                retry_after_s=max(_MIN_RETRY_S, batches * self._batch_s),
            )
        waiting: _Waiting[Item, Result] = _Waiting(item, deadline, now)
        self._queue.append(waiting)
        self._report()
        alarm = None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            alarm = loop.call_later(deadline - now, self._expire, waiting)
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if self._leave(waiting):
                self._events.on_cancelled()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    async def drain(self, timeout: float) -> None:
        """Refuse new work, finish what is queued within `timeout` seconds, stop."""
        self._closing = True
        self._changed.set()
        if self._consumer is None:
            return
        await asyncio.wait([self._consumer], timeout=timeout)
        if not self._consumer.done():
            self._consumer.cancel()
            await asyncio.wait([self._consumer])

    async def _consume(self) -> None:
        batch: list[_Waiting[Item, Result]] = []
        try:
            while await self._items_wait():
                await self._gather()
                batch = self._take()
                if batch:
                    await self._infer(batch)
        finally:
            # However it ends, nobody is left waiting.
            self._closing = True
            for waiting in (*batch, *self._queue):
                _fail(waiting, ShuttingDown("the server stopped", retry_after_s=1.0))
            self._queue.clear()
            self._report()

    async def _items_wait(self) -> bool:
        """Sleep until an item waits; False once drained."""
        while not self._queue:
            if self._closing:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    async def _gather(self) -> None:
        """While items are announced and the batch is not full, wait, but not for long.

        Nor so long that an item which waits could not be run before its deadline.
        """
        until = time.monotonic() + self._limits.max_delay_s
        while self._announced and 0 < len(self._queue) < self._limits.max_batch:
            latest = [w.deadline - self._batch_s for w in self._queue if w.deadline is not None]
            left = min([until, *latest]) - time.monotonic()
            if left <= 0 or self._closing:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                return

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._limits.max_batch:
            waiting = self._queue.popleft()
            if waiting.future.done():
                continue
            if waiting.deadline is not None and waiting.deadline <= time.monotonic():
                self._events.on_expired()
                _fail(waiting, _expired())
                continue
            batch.append(waiting)
        self._report()
        return batch

    async def _infer(self, batch: list[_Waiting[Item, Result]]) -> None:
        self._events.on_batch(len(batch))
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        items = [waiting.item for waiting in batch]
        results = await loop.run_in_executor(self._executor, self._outcome, items)
        if isinstance(results, Exception):
            for waiting in batch:
                _fail(waiting, results)
            return
        run_s = time.monotonic() - started
        self._batch_s += 0.2 * (run_s - self._batch_s)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                answer = Batched(result, started - waiting.since, run_s, len(batch))
                waiting.future.set_result(answer)

    def _outcome(self, items: list[Item]) -> list[Result] | Exception:
        """Run a batch on the session's thread; a failure is the batch's, not the consumer's.

        It travels as a value: asyncio cannot carry a StopIteration, and anything but an
        Exception would end the event loop.
        """
        try:
            results = self._run(items)
        except BaseException as error:  # noqa: BLE001 - goes to the batch's callers
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                return error
            return RuntimeError(f"inference failed with {error!r}")
        if len(results) != len(items):
            return RuntimeError(f"{len(items)} items ran, but {len(results)} results came")
        return results

    def _expire(self, waiting: _Waiting[Item, Result]) -> None:
        if self._leave(waiting):
            self._events.on_expired()
            _fail(waiting, _expired())

    def _leave(self, waiting: _Waiting[Item, Result]) -> bool:
        """Take an item out of the queue; False where its inference has begun."""
        try:
            self._queue.remove(waiting)
        except ValueError:
            return False
        self._report()
        return True

    def _report(self) -> None:
        self._events.on_depth(len(self._queue))
        self._changed.set()


def _expired() -> DeadlineExpired:
    return DeadlineExpired("the deadline passed before inference began; allow more time")


def _fail(waiting: _Waiting[Item, Result], error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
