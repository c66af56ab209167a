"""A place in the micro-batcher's queue: taken at admission, filled once the item is made."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from textcam_service.serving.batching.scheduling import Lane

Item = TypeVar("Item")
Result = TypeVar("Result")
_NEAR_S = 0.05


def is_due(deadline: float | None) -> bool:
    """Whether who leaves now leaves because of their deadline, on time.monotonic()'s clock.

    They keep it by their own clock, which began before the call arrived here, and ends it before
    word of that does: as near as that.
    """
    return deadline is not None and time.monotonic() >= deadline - _NEAR_S


@dataclass(frozen=True)
class BatchResult(Generic[Result]):
    """An item's result, with the seconds it waited and ran, and the size of its batch.

    `began`: when its batch ran, on time.monotonic()'s clock.
    """

    result: Result
    began: float
    queue_s: float
    run_s: float
    batch_size: int


class SlotOwner(Protocol):
    """Who gave a place and watches over it."""

    def on_filled(self) -> None:
        """A place's item is there."""

    def on_due(self, place: Slot[Any, Any]) -> None:
        """Its deadline passed."""

    def on_left(self, place: Slot[Any, Any], cancelled: bool) -> None:
        """Its owner left: with the answer, told of its failure or, where cancelled, before."""


class Slot(Generic[Item, Result]):
    """An admitted item's place in the queue; whoever leaves the context gives it up.

    Attributes:
        deadline: On time.monotonic()'s clock; infinity for none.
        lane: Its lane.
        admitted: When it was given, on that clock.
        filled: When its item came.
        item: None until then.
    """

    def __init__(self, keeper: SlotOwner, deadline: float, lane: Lane) -> None:
        self.deadline = deadline
        self.lane = lane
        self.admitted = self.filled = time.monotonic()
        self.item: Item | None = None
        self._keeper = keeper
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[BatchResult[Result]] = loop.create_future()
        self._alarm: asyncio.TimerHandle | None = None
        if deadline < math.inf:
            self._alarm = loop.call_later(deadline - self.admitted, keeper.on_due, self)

    async def fill(self, item: Item) -> BatchResult[Result]:
        """Bring the item and await its result.

        Raises:
            DeadlineExpired: The deadline passed before the item's inference began.
            SessionFailed: The consumer died in the middle of the item's batch.
            ShuttingDown: The batcher ended before the answer.
        """
        self.item = item
        self.filled = time.monotonic()
        self._keeper.on_filled()
        return await self._future

    @property
    def is_over(self) -> bool:
        """Whether it was answered, failed or given up."""
        return self._future.done()

    @property
    def is_ready(self) -> bool:
        """Whether its item is there and not yet answered."""
        return self.item is not None and not self.is_over

    def answer(self, batched: BatchResult[Result]) -> None:
        """Resolve it, unless it is over."""
        if not self.is_over:
            self._future.set_result(batched)

    def fail(self, error: Exception) -> bool:
        """Resolve it with an error; False where it is over already."""
        if self.is_over:
            return False
        self._future.set_exception(error)
        return True

    def __enter__(self) -> Slot[Item, Result]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        failed = False
        if not self._future.cancel() and not self._future.cancelled():
            # Seen, so that asyncio does not complain of it.
            failed = self._future.exception() is not None
        self._keeper.on_left(self, kind is asyncio.CancelledError and not failed)
