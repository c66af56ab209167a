"""A slot resolves once, and tells its owner how its context ended."""

import asyncio
import time

import pytest
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.batching.slot import BatchResult, Slot, deadline_passed

DONE = BatchResult("done", 0.0, 0.0, 0.0, 1)


class Owner:
    def __init__(self):
        self.submitted, self.due, self.exits = 0, [], []

    def on_submitted(self):
        self.submitted += 1

    def on_deadline(self, slot):
        self.due.append(slot)

    def on_exit(self, slot, cancelled):
        self.exits.append(cancelled)


def slot(owner, deadline=float("inf")):
    return Slot(owner, deadline, Lane.INTERACTIVE)


def test_a_deadline_has_passed_slightly_before_it():
    now = time.monotonic()
    assert deadline_passed(now - 1)
    assert deadline_passed(now + 0.03)  # the caller's clock may be ahead
    assert not deadline_passed(now + 1)
    assert not deadline_passed(None)


async def test_a_result_comes_once_and_later_ones_are_ignored():
    owner = Owner()
    with slot(owner) as taken:
        waiting = asyncio.create_task(taken.submit("item"))
        await asyncio.sleep(0)
        assert (taken.is_ready, taken.is_over, owner.submitted) == (True, False, 1)
        taken.resolve(DONE)
        taken.resolve(BatchResult("again", 0.0, 0.0, 0.0, 1))
        assert not taken.fail(ValueError("late"))
        assert (await waiting).result == "done"
    assert (taken.is_ready, taken.is_over, owner.exits) == (False, True, [False])


async def test_a_failure_is_no_cancellation():
    owner = Owner()
    with slot(owner) as taken:
        assert taken.fail(ValueError("damaged"))
        with pytest.raises(ValueError, match="damaged"):
            await taken.submit("item")
    assert owner.exits == [False]


async def test_a_cancelled_task_gives_its_slot_up():
    owner = Owner()

    async def wait():
        with slot(owner) as taken:
            await taken.submit("item")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert owner.exits == [True]


async def test_the_owner_hears_of_the_deadline_unless_the_context_ended():
    owner = Owner()
    with slot(owner, time.monotonic() + 0.01) as taken:
        await asyncio.sleep(0.03)
    with slot(owner, time.monotonic() + 0.01):
        pass
    await asyncio.sleep(0.03)
    assert owner.due == [taken]
