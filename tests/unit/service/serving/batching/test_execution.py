"""A batch on the session's thread: one outcome per item."""

import asyncio
import time

import pytest
from textcam_service.serving.batching.execution import run_batch
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.batching.slot import Slot


class Owner:
    def on_submitted(self):
        pass

    def on_deadline(self, slot):
        pass

    def on_exit(self, slot, cancelled):
        pass


def slots(*items, deadline=float("inf")):
    made = [Slot(Owner(), deadline, Lane.INTERACTIVE) for _ in items]
    for slot, item in zip(made, items, strict=True):
        slot.item = item
    return made


def double(items):
    if any(item == "bad" for item in items):
        raise ValueError("damaged")
    return [item * 2 for item in items]


async def test_each_item_gets_its_own_result_and_a_bad_one_fails_alone():
    run = run_batch(double, slots(1, "bad", 3))
    assert (run.results[0], str(run.results[1]), run.results[2]) == (2, "damaged", 6)
    assert (run.any_failed, run.all_failed) == (True, False)
    assert run_batch(double, slots("bad")).all_failed


async def test_items_that_expired_or_were_given_up_do_not_run():
    (late,) = slots(1, deadline=time.monotonic() - 1)
    (ready,) = slots(2)
    (empty,) = slots(None)
    (left,) = slots(4)
    left._future.cancel()
    run = run_batch(double, [late, ready, empty, left])
    assert (run.slots, run.results) == ([ready], [4])
    assert run_batch(double, [late]).results == []


@pytest.mark.parametrize("fault", [StopIteration(), asyncio.CancelledError(), SystemExit()])
async def test_errors_that_asyncio_cannot_carry_become_runtime_errors(fault):
    def fail(items):
        raise fault

    (error,) = run_batch(fail, slots(1)).results
    assert isinstance(error, RuntimeError)
    assert type(fault).__name__ in str(error)
