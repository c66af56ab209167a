"""Execution of a batch on the session's thread, with one outcome per item."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from textcam_service.serving.batching.slot import Item, Result, Slot

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchRun(Generic[Item, Result]):
    """A batch that ran.

    Attributes:
        began: When it began, on time.monotonic()'s clock.
        slots: Slots of the items that ran.
        results: A result or an error for each of them.
    """

    began: float
    slots: list[Slot[Item, Result]]
    results: list[Result | Exception]

    @property
    def any_failed(self) -> bool:
        """True if any item failed."""
        return any(isinstance(result, Exception) for result in self.results)

    @property
    def all_failed(self) -> bool:
        """True if every item failed."""
        return all(isinstance(result, Exception) for result in self.results)


def run_batch(
    run: Callable[[list[Item]], list[Result]], batch: list[Slot[Item, Result]]
) -> BatchRun[Item, Result]:
    """Run a batch on the session's thread.

    The thread may have been busy with other work. So items that were cancelled or expired in the
    meantime do not run.
    """
    began = time.monotonic()
    alive = [slot for slot in batch if slot.is_ready and slot.deadline > began]
    items: list[Any] = [slot.item for slot in alive]
    return BatchRun(began, alive, _outcomes(run, items) if items else [])


def _outcomes(
    run: Callable[[list[Item]], list[Result]], items: list[Item]
) -> list[Result | Exception]:
    """Return a result or an error per item; an item that fails the session affects no other.

    Errors are returned as values: asyncio cannot carry a StopIteration, and anything but an
    Exception would end the loop.
    """
    try:
        results: list[Result | Exception] = list(run(list(items)))
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items ran, but {len(results)} results came")
    except BaseException as error:  # noqa: BLE001 - goes to the batch's callers
        if len(items) > 1:
            _log.warning("a batch of %d failed (%r); each item runs alone", len(items), error)
            return [_outcomes(run, [item])[0] for item in items]
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return [error]
        return [RuntimeError(f"inference failed with {error!r}")]
    return results
