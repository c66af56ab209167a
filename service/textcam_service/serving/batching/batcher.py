"""One bounded micro-batcher in front of the session.

An item is admitted before it is made: it takes a place by its deadline, and is refused at once
where the place would come too late. It runs as soon as the session is idle and no other item is on
its way; while the session is busy items gather. Expired and cancelled items leave before
inference, each on its own. Every future resolves exactly once, however a batch, a hook or the
consumer ends; a consumer that dies is started again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic

from textcam_service.errors import DeadlineExpired, QueueFull, SessionFailed, ShuttingDown
from textcam_service.serving.batching.events import BatcherEvents
from textcam_service.serving.batching.queues import EXPIRED, BatchLimits, Queues
from textcam_service.serving.batching.scheduling import BatchLatency, Lane
from textcam_service.serving.batching.slot import BatchResult, Item, Result, Slot, is_due

_log = logging.getLogger(__name__)
_WAKE_S = 0.02  # a loaded loop may wake so late
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_GOOD_LIFE_S = 60.0  # a consumer that lived so long had recovered
_DOUBTFUL = 3  # batches in a row of which nothing came
# A batch that takes longer, and so many times what it should, hangs.
_HANGS_S, _HANGS_TIMES = 30.0, 20.0
_DOWN = "the session does not run, and is looked after; another replica will answer"


@dataclass(frozen=True)
class _Run(Generic[Item, Result]):
    """A batch that ran: when it began, who was in it, and what came of each."""

    began: float
    places: list[Slot[Item, Result]]
    results: list[Result | Exception]

    @property
    def failed(self) -> bool:
        """Whether any item did."""
        return any(isinstance(result, Exception) for result in self.results)


class Batcher(Generic[Item, Result]):
    """Gathers items and runs them together. Lives on one event loop.

    Args:
        run: Runs a batch in `executor` and returns a result per item, in order.
        limits: See BatchLimits.
        executor: One thread, the owner of the session.
        events: Told what happens.
        revive: Awaited before a consumer that died is started again, where it raises, later; and
            after three batches in a row in which all failed: where it raises, the consumer dies.
        tell_health: Told False when the consumer died, or a batch hangs; True when it runs again.
        tell_run: Told the items of each batch that ran, before its answers go out; when it began,
            its seconds, and whether any item failed.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        limits: BatchLimits,
        executor: ThreadPoolExecutor,
        events: BatcherEvents,
        revive: Callable[[], Awaitable[None]] | None = None,
        tell_health: Callable[[bool], None] | None = None,
        tell_run: Callable[[list[Item], float, float, bool], None] | None = None,
    ) -> None:
        self._cost = BatchLatency()  # of the session alone
        # From one batch's end to the next while items wait: what else they wait for, such as
        # decoding on the same cores, is in it.
        self._turn_cost = BatchLatency()
        self._ended = -math.inf
        self._in_vain = 0
        self._down = False  # nothing can run, and did not when it was last tried
        self._run = run
        self._limits = limits
        self._executor = executor
        self._events = events
        self._revive = revive
        self._tell_health = tell_health or (lambda _: None)
        self._tell_run = tell_run
        self._broken_hooks: set[Callable[..., None]] = set()
        self._queues: Queues[Slot[Item, Result]] = Queues(limits, self._turn_cost)
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
        """How full a lane's queue is, 0 .. 1."""
        return self._queues.pressure(lane)

    @property
    def full_turn_s(self) -> float:
        """Seconds from one full batch's end to the next one's."""
        return self._turn_cost.of(self._limits.max_batch)

    def expect(self, size: int, seconds: float) -> None:
        """A batch of `size` items took so long, before anyone waited: at warm-up."""
        self._learn(size, seconds, seconds)

    async def start(self) -> None:
        """Begin to consume."""
        self._consumer = asyncio.create_task(self._consume(), name="textcam-batcher")
        self._supervisor = asyncio.create_task(self._supervise(), name="textcam-supervisor")

    def admit(
        self,
        deadline: float | None,
        lane: Lane = Lane.INTERACTIVE,
        max_wait_s: float = math.inf,
    ) -> Slot[Item, Result]:
        """Take a place for an item that is on its way; a batch may wait for it.

        Args:
            deadline: For the inference's end, on time.monotonic()'s clock; None: none.
            lane: Interactive items go first; audit items have a guaranteed share.
            max_wait_s: Until the inference's end; one that runs beside no other may take longer.

        Raises:
            QueueFull: max_queue items of the lane wait already, or by the time of those ahead it
                would be done in over max_wait_s.
            DeadlineUnreachable: By the time of those ahead, it would be late, or make another late.
            DeadlineExpired: It has passed, or no idle session could meet it.
            SessionFailed: The session is gone, or hangs.
            ShuttingDown: drain() was called.
        """
        now = time.monotonic()
        due = math.inf if deadline is None else deadline
        if self._closing or self._supervisor is None or self._supervisor.done():
            raise ShuttingDown("the server takes no new work; try another", retry_after_s=1.0)
        if self._down:
            raise SessionFailed(_DOWN, retry_after_s=1.0)
        try:
            self._queues.require(due, lane, now, max_wait_s)
        except DeadlineExpired:
            self._tell(self._events.on_expired)
            raise
        except QueueFull as error:
            self._tell(self._events.on_rejected, error.reason)
            raise
        place: Slot[Item, Result] = Slot(self, due, lane)
        self._queues.add(place)
        return place

    async def submit(
        self, item: Item, deadline: float | None, lane: Lane = Lane.INTERACTIVE
    ) -> BatchResult[Result]:
        """Queue an item that is there and await its result; see admit() and Slot.fill()."""
        with self.admit(deadline, lane) as place:
            return await place.fill(item)

    async def drain(self, timeout: float) -> None:
        """Refuse new work, finish what comes within `timeout` seconds, answer ShuttingDown after.

        What was admitted is work, whether its item is there yet or not.
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
        """Start the consumer again, however often it dies."""
        pause = _FIRST_PAUSE_S
        while True:
            assert self._consumer is not None  # noqa: S101 - start() made it
            born = time.monotonic()
            await asyncio.wait([self._consumer])
            if not self._consumer.cancelled() and self._consumer.exception() is None:
                return  # drained
            error = None if self._consumer.cancelled() else self._consumer.exception()
            _log.error("the batcher failed; it starts again", exc_info=error)
            self._tell(self._events.on_restart)
            self._tell(self._tell_health, False)
            self._fail_batch(SessionFailed("the batch was lost; try again", retry_after_s=0.1))
            if time.monotonic() - born > _GOOD_LIFE_S:
                pause = _FIRST_PAUSE_S
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                try:
                    if self._revive is not None:
                        await self._revive()
                    break
                except Exception:  # noqa: BLE001 - whatever the session may raise
                    _log.exception("the batcher cannot start yet")
                    self._down = True
                    self._fail_all(SessionFailed(_DOWN, retry_after_s=1.0))
            self._down = False
            self._consumer = asyncio.create_task(self._consume(), name="textcam-batcher")
            self._tell(self._tell_health, True)

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
                self._queues.free_at = None
                if self._in_vain >= _DOUBTFUL and self._revive is not None:
                    self._in_vain = 0
                    await self._revive()  # these items' fault, or the session's

    async def _linger(self) -> None:
        """Wait for items on their way, but never so long that a waiting one misses its deadline."""
        until = time.monotonic() + self._limits.max_delay_s
        while 0 < (ready := self.depth) < min(self._limits.max_batch, len(self._queues)):
            earliest = min(place.deadline for place in self._queues if place.is_ready)
            latest = min(until, earliest - self._cost.of(ready) - _WAKE_S)
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
        for place in [place for place in self._queues if place.deadline <= now]:
            self.on_due(place)
        self._batch = self._queues.take(now)
        self._queues.free_at = now + self._cost.of(len(self._batch)) if self._batch else None
        self._report()

    async def _infer(self) -> None:
        loop = asyncio.get_running_loop()
        most = max(_HANGS_S, _HANGS_TIMES * self._cost.of(len(self._batch)))
        alarm = loop.call_later(most, self._on_hanging, most)
        try:
            run = await loop.run_in_executor(self._executor, self._outcome, self._batch)
        finally:
            alarm.cancel()
        if self._down:
            _log.warning("the batch that hung is over")
            self._down = False
            self._tell(self._tell_health, True)
        ended = time.monotonic()
        run_s = ended - run.began
        size = len(run.places)
        for place in self._batch:
            if place not in run.places and place.fail(DeadlineExpired(EXPIRED)):
                self._tell(self._events.on_expired)
        if size:
            self._tell(self._events.on_batch, size)
            if self._tell_run is not None:
                items = [place.item for place in run.places]
                self._tell(self._tell_run, items, run.began, run_s, run.failed)
            if not run.failed:
                turn_began = max(self._ended, min(place.admitted for place in run.places))
                self._learn(size, run_s, ended - turn_began)
            in_vain = all(isinstance(result, Exception) for result in run.results)
            self._in_vain = self._in_vain + 1 if in_vain else 0
            self._ended = ended
        for place, result in zip(run.places, run.results, strict=True):
            if isinstance(result, Exception):
                place.fail(result)
            else:
                waited = run.began - place.filled
                place.answer(BatchResult(result, run.began, waited, run_s, size))

    def _outcome(self, batch: list[Slot[Item, Result]]) -> _Run[Item, Result]:
        """Run a batch on the session's thread.

        The thread may have been busy for others: who left or is late by now does not run.
        """
        began = time.monotonic()
        alive = [place for place in batch if place.is_ready and place.deadline > began]
        items: list[Any] = [place.item for place in alive]
        results = self._results(items) if items else []
        return _Run(began, alive, results)

    def _results(self, items: list[Item]) -> list[Result | Exception]:
        """A result or a failure per item: one on which the session fails harms no other.

        Failures travel as values: asyncio cannot carry a StopIteration, and anything but an
        Exception would end the loop.
        """
        try:
            results: list[Result | Exception] = list(self._run(list(items)))
            if len(results) != len(items):
                raise RuntimeError(f"{len(items)} items ran, but {len(results)} results came")
        except BaseException as error:  # noqa: BLE001 - goes to the batch's callers
            if len(items) > 1:
                _log.warning("a batch of %d failed (%r); each runs by itself", len(items), error)
                return [self._results([item])[0] for item in items]
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                return [error]
            return [RuntimeError(f"inference failed with {error!r}")]
        return results

    def _on_hanging(self, seconds: float) -> None:
        _log.error(
            "a batch runs for %.0f s already; until it ends the server is not healthy", seconds
        )
        self._down = True
        self._tell(self._tell_health, False)

    def _fail_all(self, error: Exception) -> None:
        self._fail_batch(error)
        for place in list(self._queues):
            place.fail(error)
            self._queues.discard(place)
        self._report()

    def _fail_batch(self, error: Exception) -> None:
        for place in self._batch:
            place.fail(error)
        self._batch = []
        self._queues.free_at = None

    # --- what places tell -----------------------------------------------------------

    def on_filled(self) -> None:
        """A batch may be full."""
        self._report()

    def on_due(self, place: Slot[Item, Result]) -> None:
        """Answer an item that waits past its deadline; one that runs is let run."""
        if place not in self._batch and place.fail(DeadlineExpired(EXPIRED)):
            self._tell(self._events.on_expired)
            self._discard(place)

    def on_left(self, place: Slot[Item, Result], cancelled: bool) -> None:
        """Forget an item that nobody waits for."""
        self._discard(place)
        if cancelled:
            events = self._events
            self._tell(events.on_expired if is_due(place.deadline) else events.on_cancelled)

    # --- bookkeeping ----------------------------------------------------------------

    def _learn(self, size: int, run_s: float, turn_s: float) -> None:
        self._cost.observe(size, run_s)
        self._turn_cost.observe(size, turn_s)
        self._queues.learnt_at = time.monotonic()

    def _discard(self, place: Slot[Item, Result]) -> None:
        if self._queues.discard(place):
            self._report()

    def _report(self) -> None:
        self._tell(self._events.on_depth, self.depth)
        self._changed.set()

    def _tell(self, hook: Callable[..., None], *values: object) -> None:
        try:
            hook(*values)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - no hook may harm an item
            if hook not in self._broken_hooks:
                self._broken_hooks.add(hook)
                _log.exception("%r failed; the batcher goes on", hook)
