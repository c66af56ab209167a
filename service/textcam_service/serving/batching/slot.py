"""Slots of the micro-batcher's queue: taken at admission, filled when the item is ready."""

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
_CLOCK_TOLERANCE_S = 0.05


def deadline_passed(deadline: float | None) -> bool:
    """Return True if the deadline has passed, allowing 50 ms for the caller's clock.

    A caller that leaves at its deadline uses its own clock, which began before the call arrived.
    So the cancellation may arrive here slightly before the deadline.

    Args:
        deadline: Deadline on time.monotonic()'s clock; None if there is none.
    """
    return deadline is not None and time.monotonic() >= deadline - _CLOCK_TOLERANCE_S


@dataclass(frozen=True)
class BatchResult(Generic[Result]):
    """An item's result with its timing.

    Attributes:
        result: The result.
        began: When its batch began to run, on time.monotonic()'s clock.
        queue_s: Seconds from its submission to that.
        run_s: Seconds that the batch ran.
        batch_size: Items of the batch.
    """

    result: Result
    began: float
    queue_s: float
    run_s: float
    batch_size: int


class SlotOwner(Protocol):
    """The batcher that gave out a slot."""

    def on_submitted(self) -> None:
        """Called when a slot's item was submitted."""

    def on_deadline(self, slot: Slot[Any, Any]) -> None:
        """Called when a slot's deadline passes."""

    def on_exit(self, slot: Slot[Any, Any], cancelled: bool) -> None:
        """Called when a slot's context ends.

        Args:
            slot: The slot.
            cancelled: True if its task was cancelled before a result or an error.
        """


class Slot(Generic[Item, Result]):
    """An admitted item's position in the queue; given up when its context ends.

    Attributes:
        deadline: Deadline on time.monotonic()'s clock; infinity if there is none.
        lane: Lane of the item.
        admitted: When it was admitted, on that clock.
        submitted: When the item was submitted.
        item: None until then.
    """

    def __init__(self, owner: SlotOwner, deadline: float, lane: Lane) -> None:
        self.deadline = deadline
        self.lane = lane
        self.admitted = self.submitted = time.monotonic()
        self.item: Item | None = None
        self._owner = owner
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[BatchResult[Result]] = loop.create_future()
        self._alarm: asyncio.TimerHandle | None = None
        if deadline < math.inf:
            self._alarm = loop.call_later(deadline - self.admitted, owner.on_deadline, self)

    async def submit(self, item: Item) -> BatchResult[Result]:
        """Submit the item and wait for its result.

        Raises:
            DeadlineExpired: The deadline passed before the item's inference began.
            SessionFailed: The consumer died while the item's batch ran.
            ShuttingDown: The batcher ended before the result.
        """
        self.item = item
        self.submitted = time.monotonic()
        self._owner.on_submitted()
        return await self._future

    @property
    def is_over(self) -> bool:
        """True if the item has a result or an error, or was given up."""
        return self._future.done()

    @property
    def is_ready(self) -> bool:
        """True if the item was submitted and is not over."""
        return self.item is not None and not self.is_over

    def resolve(self, result: BatchResult[Result]) -> None:
        """Set the result, unless the item is over."""
        if not self.is_over:
            self._future.set_result(result)

    def fail(self, error: Exception) -> bool:
        """Set an error; return False if the item is over already."""
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
            # Retrieved, or asyncio would log it as never retrieved.
            failed = self._future.exception() is not None
        self._owner.on_exit(self, kind is asyncio.CancelledError and not failed)
