"""Bounded micro-batcher in front of the inference session.

An item is admitted before it exists. It takes a slot by its deadline, and is rejected at once if
its turn would come too late. It runs as soon as the session is idle and no other admitted item is
still being prepared; while the session is busy, items gather. Expired and cancelled items leave
one by one before inference. Every future resolves exactly once, however a batch, a callback or the
consumer ends. A consumer that dies is started again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic

from textcam_service.errors import DeadlineExpired, QueueFull, SessionFailed, ShuttingDown
from textcam_service.serving.batching.deadlines import EXPIRED, BatchLimits
from textcam_service.serving.batching.events import BatcherEvents
from textcam_service.serving.batching.execution import run_batch
from textcam_service.serving.batching.latency import BatchLatency
from textcam_service.serving.batching.queues import Queues
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.batching.slot import BatchResult, Item, Result, Slot, deadline_passed

_log = logging.getLogger(__name__)
_WAKE_S = 0.02  # a loaded event loop may wake up this late
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_RECOVERED_AFTER_S = 60.0  # a consumer that lived this long had recovered
_PROBE_AFTER = 3  # batches in a row in which every item failed
# A batch hangs when it takes longer than both: this time, and this multiple of its latency.
_HANG_S, _HANG_FACTOR = 30.0, 20.0
_UNAVAILABLE = "the inference session is down and is being restarted; retry on another replica"


class Batcher(Generic[Item, Result]):
    """Micro-batcher that gathers items and runs them together. Lives on one event loop.

    Args:
        run: Runs a batch in `executor` and returns a result per item, in order.
        limits: See BatchLimits.
        executor: One thread, the owner of the session.
        events: Callbacks for what happens.
        probe: Awaited before a consumer that died is started again; if it raises, the restart is
            tried later. Also awaited after three batches in a row in which every item failed; if
            it raises then, the consumer dies.
        on_health_change: Called with False when the consumer died or a batch hangs, and with True
            when batches run again.
        on_batch_done: Called with the items of each batch that ran, before their results are set;
            when it began, its seconds, and whether any item failed.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        executor: ThreadPoolExecutor,
        events: BatcherEvents,
        probe: Callable[[], Awaitable[None]] | None = None,
        on_health_change: Callable[[bool], None] | None = None,
        on_batch_done: Callable[[list[Item], float, float, bool], None] | None = None,
    ) -> None:
        self._latency = BatchLatency()  # of the session alone
        # From one batch's end to the next while items wait. It includes other work on the same
        # cores, such as decoding.
        self._cycle_latency = BatchLatency()
        self._ended = -math.inf
        self._failed_in_a_row = 0
        self._unavailable = False  # a batch hangs, or the last probe failed
        self._run = run
        self._limits = limits
        self._executor = executor
        self._events = events
        self._probe = probe
        self._on_health_change = on_health_change or (lambda _: None)
        self._on_batch_done = on_batch_done
        self._broken_hooks: set[Callable[..., None]] = set()
        self._queues: Queues[Slot[Item, Result]] = Queues(limits, self._cycle_latency)
        self._batch: list[Slot[Item, Result]] = []
        self._changed = asyncio.Event()
        self._closing = False
        self._consumer: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Items that wait for inference."""
        return self._queues.ready

    def pressure(self, lane: Lane) -> float:
        """Return how full a lane's queue is, 0 .. 1."""
        return self._queues.pressure(lane)

    @property
    def full_cycle_s(self) -> float:
        """Expected seconds from one full batch's end to the next one's."""
        return self._cycle_latency.of(self._limits.max_batch)

    def seed_latency(self, size: int, seconds: float) -> None:
        """Record the duration of a batch of `size` items that ran at warm-up."""
        self._observe(size, seconds, seconds)

    async def start(self) -> None:
        """Start the consumer."""
        self._consumer = asyncio.create_task(self._consume(), name="textcam-batcher")
        self._supervisor = asyncio.create_task(self._supervise(), name="textcam-supervisor")

    def admit(
        self,
        deadline: float | None,
        lane: Lane = Lane.INTERACTIVE,
        max_wait_s: float = math.inf,
    ) -> Slot[Item, Result]:
        """Take a slot for an item that is being prepared; a batch may wait for it.

        Args:
            deadline: Deadline for the end of inference, on time.monotonic()'s clock; None if there
                is none.
            lane: Interactive items go first; audit items have a guaranteed share.
            max_wait_s: Maximum seconds until the end of inference; an idle session ignores it.

        Raises:
            QueueFull: max_queue items of the lane wait already, or the items ahead would make this
                one wait longer than max_wait_s.
            DeadlineUnreachable: After the items ahead it would be late, or it would make another
                item late.
            DeadlineExpired: The deadline has passed, or even an idle session could not meet it.
            SessionFailed: The session is gone, or hangs.
            ShuttingDown: drain() was called.
        """
        now = time.monotonic()
        latest = math.inf if deadline is None else deadline
        if self._closing or self._supervisor is None or self._supervisor.done():
            raise ShuttingDown(
                "the server accepts no new requests; retry on another replica", retry_after_s=1.0
            )
        if self._unavailable:
            raise SessionFailed(_UNAVAILABLE, retry_after_s=1.0)
        try:
            self._queues.deadlines.check(latest, lane, now, max_wait_s)
        except DeadlineExpired:
            self._notify(self._events.on_expired)
            raise
        except QueueFull as error:
            self._notify(self._events.on_rejected, error.reason)
            raise
        slot: Slot[Item, Result] = Slot(self, latest, lane)
        self._queues.add(slot)
        return slot

    async def submit(
        self, item: Item, deadline: float | None, lane: Lane = Lane.INTERACTIVE
    ) -> BatchResult[Result]:
        """Queue an item and wait for its result; see admit() and Slot.submit()."""
        with self.admit(deadline, lane) as slot:
            return await slot.submit(item)

    async def drain(self, timeout: float) -> None:
        """Reject new items, and finish admitted ones within `timeout` seconds.

        Admitted items count whether they were submitted yet or not. Items left after the timeout
        fail with ShuttingDown.
        """
        self._closing = True
        self._changed.set()
        if self._supervisor is not None:
            await asyncio.wait([self._supervisor], timeout=timeout)
        # The supervisor first, or it would start the consumer again.
        for task in (self._supervisor, self._consumer):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._fail_all(ShuttingDown("the server stopped", retry_after_s=1.0))

    # --- the consumer -------------------------------------------------------------

    async def _supervise(self) -> None:
        """Start the consumer again each time it dies."""
        pause = _FIRST_PAUSE_S
        while True:
            assert self._consumer is not None  # noqa: S101 - start() made it
            born = time.monotonic()
            await asyncio.wait([self._consumer])
            if not self._consumer.cancelled() and self._consumer.exception() is None:
                return  # drained
            error = None if self._consumer.cancelled() else self._consumer.exception()
            _log.error("the batcher failed; it starts again", exc_info=error)
            self._notify(self._events.on_restart)
            self._notify(self._on_health_change, False)
            self._fail_batch(SessionFailed("the batch was lost; try again", retry_after_s=0.1))
            if time.monotonic() - born > _RECOVERED_AFTER_S:
                pause = _FIRST_PAUSE_S
            pause = await self._pause_until_sound(pause)
            self._unavailable = False
            self._consumer = asyncio.create_task(self._consume(), name="textcam-batcher")
            self._notify(self._on_health_change, True)

    async def _pause_until_sound(self, pause: float) -> float:
        """Pause until the probe succeeds; return the pause before the next restart."""
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            try:
                if self._probe is not None:
                    await self._probe()
                return pause
            except Exception:  # noqa: BLE001 - the session may raise anything
                _log.exception("the batcher cannot start yet")
                self._unavailable = True
                self._fail_all(SessionFailed(_UNAVAILABLE, retry_after_s=1.0))

    async def _consume(self) -> None:
        while len(self._queues) or not self._closing:
            if not self.depth:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._linger()
            self._take()
            if self._batch:
                await self._infer()
                self._batch = []
                self._queues.deadlines.idle_at = None
                if self._failed_in_a_row >= _PROBE_AFTER and self._probe is not None:
                    self._failed_in_a_row = 0
                    await self._probe()  # distinguishes bad items from a bad session

    async def _linger(self) -> None:
        """Wait for items in preparation, but not so long that a ready one misses its deadline."""
        until = time.monotonic() + self._limits.max_delay_s
        while 0 < (ready := self.depth) < min(self._limits.max_batch, len(self._queues)):
            earliest = min(slot.deadline for slot in self._queues if slot.is_ready)
            latest = min(until, earliest - self._latency.of(ready) - _WAKE_S)
            left = latest - time.monotonic()
            if left <= 0 or self._closing:
                return
            self._changed.clear()
            # Not asyncio.wait_for(): up to Python 3.11 it can swallow a cancellation.
            alarm = asyncio.get_running_loop().call_later(left, self._changed.set)
            await self._changed.wait()
            alarm.cancel()

    def _take(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot in self._queues if slot.deadline <= now]:
            self.on_deadline(slot)
        self._batch = self._queues.take(now)
        self._queues.deadlines.idle_at = (
            now + self._latency.of(len(self._batch)) if self._batch else None
        )
        self._report()

    async def _infer(self) -> None:
        loop = asyncio.get_running_loop()
        most = max(_HANG_S, _HANG_FACTOR * self._latency.of(len(self._batch)))
        alarm = loop.call_later(most, self._on_hanging, most)
        try:
            execute = partial(run_batch, self._run, self._batch)
            run = await loop.run_in_executor(self._executor, execute)
        finally:
            alarm.cancel()
        if self._unavailable:
            _log.warning("the batch that hung has ended")
            self._unavailable = False
            self._notify(self._on_health_change, True)
        ended = time.monotonic()
        run_s = ended - run.began
        size = len(run.slots)
        for slot in self._batch:
            if slot not in run.slots and slot.fail(DeadlineExpired(EXPIRED)):
                self._notify(self._events.on_expired)
        if size:
            self._notify(self._events.on_batch, size)
            if self._on_batch_done is not None:
                items = [slot.item for slot in run.slots]
                self._notify(self._on_batch_done, items, run.began, run_s, run.any_failed)
            if not run.any_failed:
                cycle_began = max(self._ended, min(slot.admitted for slot in run.slots))
                self._observe(size, run_s, ended - cycle_began)
            self._failed_in_a_row = self._failed_in_a_row + 1 if run.all_failed else 0
            self._ended = ended
        for slot, result in zip(run.slots, run.results, strict=True):
            if isinstance(result, Exception):
                slot.fail(result)
            else:
                waited = run.began - slot.submitted
                slot.resolve(BatchResult(result, run.began, waited, run_s, size))

    def _on_hanging(self, seconds: float) -> None:
        _log.error("a batch has run for %.0f s; the server is not healthy until it ends", seconds)
        self._unavailable = True
        self._notify(self._on_health_change, False)

    def _fail_all(self, error: Exception) -> None:
        self._fail_batch(error)
        for slot in list(self._queues):
            slot.fail(error)
            self._queues.discard(slot)
        self._report()

    def _fail_batch(self, error: Exception) -> None:
        for slot in self._batch:
            slot.fail(error)
        self._batch = []
        self._queues.deadlines.idle_at = None

    # --- callbacks of the slots -----------------------------------------------------

    def on_submitted(self) -> None:
        """Wake the consumer: a batch may be full."""
        self._report()

    def on_deadline(self, slot: Slot[Item, Result]) -> None:
        """Fail a waiting item at its deadline; one that runs already goes on."""
        if slot not in self._batch and slot.fail(DeadlineExpired(EXPIRED)):
            self._notify(self._events.on_expired)
            self._discard(slot)

    def on_exit(self, slot: Slot[Item, Result], cancelled: bool) -> None:
        """Remove an item after its caller has left."""
        self._discard(slot)
        if cancelled:
            events = self._events
            self._notify(
                events.on_expired if deadline_passed(slot.deadline) else events.on_cancelled
            )

    # --- bookkeeping ----------------------------------------------------------------

    def _observe(self, size: int, run_s: float, cycle_s: float) -> None:
        self._latency.observe(size, run_s)
        self._cycle_latency.observe(size, cycle_s)
        self._queues.deadlines.observed_at = time.monotonic()

    def _discard(self, slot: Slot[Item, Result]) -> None:
        if self._queues.discard(slot):
            self._report()

    def _report(self) -> None:
        self._notify(self._events.on_depth, self.depth)
        self._changed.set()

    def _notify(self, hook: Callable[..., None], *values: object) -> None:
        try:
            hook(*values)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - no hook may harm an item
            if hook not in self._broken_hooks:
                self._broken_hooks.add(hook)
                _log.exception("callback %r failed; the batcher goes on", hook)
