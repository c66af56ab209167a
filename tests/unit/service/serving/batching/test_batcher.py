"""Batches gather, run and fail; waits that must not happen are made a minute long."""

import asyncio
import random
import time

import pytest
from batchers import CALLBACKS, LONG, Events, busy, seed_slow, settle, until
from textcam_service.errors import (
    DeadlineExpired,
    QueueFull,
    ShuttingDown,
)


async def test_an_idle_batcher_does_not_wait(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    answer = await asyncio.wait_for(batcher.submit(4, None), 5)
    assert (answer.result, answer.batch_size, events.batches) == (8, 1, [1])


async def test_items_gather_while_the_session_is_busy(made):
    session, events, make = made
    batcher = await make(max_batch=3)
    first = await busy(batcher, session)
    rest = [asyncio.create_task(batcher.submit(n, None)) for n in range(1, 6)]
    await until(lambda: batcher.depth == 5)
    session.gate.set()
    answers = await asyncio.gather(first, *rest)
    assert [answer.result for answer in answers] == [0, 2, 4, 6, 8, 10]
    assert events.batches == [1, 3, 2]


async def test_an_announced_item_is_waited_for_and_joins(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        first = asyncio.create_task(batcher.submit(1, None))
        await settle()
        assert (events.batches, events.depth) == ([], 1)
        second = asyncio.create_task(batcher.submit(2, None))
        await settle()
        assert (events.batches, events.depth) == ([], 2)
    answers = await asyncio.wait_for(asyncio.gather(first, second), 5)
    assert [(answer.result, answer.batch_size) for answer in answers] == [(2, 2), (4, 2)]
    assert events.batches == [2]


async def test_an_announced_item_that_never_comes_is_not_waited_for_any_longer(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        first = asyncio.create_task(batcher.submit(1, None))
        await settle()
        assert events.batches == []
    assert (await asyncio.wait_for(first, 5)).batch_size == 1


async def test_a_full_batch_waits_for_nobody(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG, max_batch=2)
    with batcher.admit(None):
        await asyncio.wait_for(asyncio.gather(*(batcher.submit(n, None) for n in (1, 2))), 5)
    assert events.batches == [2]


async def test_items_on_their_way_are_not_waited_for_past_the_earliest_deadline(made):
    _, events, make = made
    batcher = await make(max_delay_s=2 * LONG)
    seed_slow(batcher, LONG)  # so that the linger has to end now for the near one
    with batcher.admit(None):
        far = asyncio.create_task(batcher.submit(1, time.monotonic() + 10 * LONG))
        await settle()
        assert events.batches == []
        near = asyncio.create_task(batcher.submit(2, time.monotonic() + LONG + 0.01))
        answers = await asyncio.wait_for(asyncio.gather(far, near), 5)
    assert [answer.result for answer in answers] == [2, 4]
    assert (events.batches, events.expired) == ([2], 0)


async def test_a_linger_that_has_begun_ends_before_the_deadline(made):
    _, events, make = made
    batcher = await make(max_delay_s=2 * LONG)
    seed_slow(batcher, LONG)
    with batcher.admit(None):
        # Some 50 ms of linger are left.
        answer = await asyncio.wait_for(batcher.submit(1, time.monotonic() + LONG + 0.07), 5)
    assert (answer.result, events.expired) == (2, 0)


async def test_the_wait_for_announced_items_is_bounded(made):
    _, events, make = made
    batcher = await make(max_delay_s=0.03)
    with batcher.admit(None):
        answer = await asyncio.wait_for(batcher.submit(1, None), 5)
    assert (answer.result, events.batches) == (2, [1])


def faulty(fault):
    """Events that count, then raise."""

    def breaking(name):
        def hook(self, *values):
            getattr(Events, name)(self, *values)
            raise fault

        return hook

    return type("Faulty", (Events,), {name: breaking(name) for name in CALLBACKS})()


@pytest.mark.parametrize("fault", [ValueError("hook"), asyncio.CancelledError("hook")])
async def test_hooks_that_raise_harm_no_item_and_are_logged_once_each(made, caplog, fault):
    session, _, make = made
    hooks = faulty(fault)
    batcher = await make(hooks=hooks, max_queue=2)
    for n in (1, 2):
        session.begun.clear()
        first = await busy(batcher, session)
        left = asyncio.create_task(batcher.submit(1, None))
        stays = asyncio.create_task(batcher.submit(2, None))
        await until(lambda: batcher.depth == 2)
        with pytest.raises(QueueFull):
            await batcher.submit(3, None)
        left.cancel()
        await until(lambda: batcher.depth == 1)
        with pytest.raises(DeadlineExpired):
            await asyncio.wait_for(batcher.submit(4, time.monotonic() + 0.02), 5)
        session.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(first, stays), 5)
        assert [answer.result for answer in answers] == [0, 4]
        assert left.cancelled()
        assert (hooks.rejected, hooks.cancelled, hooks.expired) == (n, n, n)
    assert (hooks.batches, hooks.depth) == ([1, 1, 1, 1], 0)
    assert len(caplog.records) == len(CALLBACKS)
    assert all("the batcher goes on" in record.message for record in caplog.records)


async def test_hooks_that_raise_do_not_hinder_the_end(made):
    session, _, make = made
    batcher = await make(hooks=faulty(ValueError("hook")))
    first = await busy(batcher, session)
    second = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    await batcher.drain(0)
    for task in (first, second):
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(task, 5)


async def test_a_failing_batch_fails_its_items_and_the_batcher_lives_on(made):
    _, _, make = made
    batcher = await make()
    for fault in (ValueError("boom"), StopIteration("boom"), asyncio.CancelledError("boom")):
        with pytest.raises((ValueError, RuntimeError), match="boom"):
            await asyncio.wait_for(batcher.submit(fault, None), 5)
    assert (await batcher.submit(5, None)).result == 10


async def test_an_item_on_which_the_session_fails_harms_none_of_its_batch(made, caplog):
    session, _, make = made
    batcher = await make()
    first = await busy(batcher, session)
    four = [asyncio.create_task(batcher.submit(n, None)) for n in (1, ValueError("boom"), 3, 4)]
    await until(lambda: batcher.depth == 4)
    session.gate.set()
    await first
    answers = await asyncio.gather(*four, return_exceptions=True)
    assert [getattr(a, "result", str(a)) for a in answers] == [2, "boom", 6, 8]
    assert "a batch of 4 failed (ValueError('boom')); each item runs alone" in caplog.text


@pytest.mark.parametrize(
    ("run", "error", "words"),
    [
        (lambda items: [], RuntimeError, "1 items ran, but 0 results"),
        (lambda items: [items.pop() for _ in items][:0], RuntimeError, "1 items ran, but 0"),
        (lambda items: None, TypeError, "not iterable"),
    ],
)
async def test_results_that_do_not_match_are_an_error_of_the_batch_alone(made, run, error, words):
    _, _, make = made
    batcher = await make(run=run)
    for _ in range(2):
        with pytest.raises(error, match=words):
            await asyncio.wait_for(batcher.submit(5, None), 5)


async def test_five_hundred_with_random_cancellations_all_resolve_to_their_own(made):
    _, events, make = made
    batcher = await make(max_queue=500, max_batch=7)
    rng = random.Random(0)
    tasks = [asyncio.create_task(batcher.submit(n, None)) for n in range(500)]
    for task in tasks:
        if rng.random() < 0.3:
            await asyncio.sleep(0)
            task.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    kept = [(n, a) for n, a in enumerate(answers) if not isinstance(a, asyncio.CancelledError)]
    assert len(kept) > 200
    assert all(answer.result == 2 * n for n, answer in kept)
    assert (batcher.depth, events.cancelled) == (0, 500 - len(kept))
