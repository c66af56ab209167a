"""Cancelled items leave one by one, are counted once, and affect no other item."""

import asyncio
import time

from batchers import LONG, busy, settle, until


async def test_one_cancelled_of_four_leaves_the_others_alone(made):
    session, events, make = made
    batcher = await make()
    first = await busy(batcher, session)
    four = [asyncio.create_task(batcher.submit(n, None)) for n in (1, 2, 3, 4)]
    await until(lambda: batcher.depth == 4)
    four[1].cancel()
    await until(lambda: batcher.depth == 3)
    session.gate.set()
    await first
    answers = await asyncio.gather(*four, return_exceptions=True)
    assert [getattr(a, "result", None) for a in answers] == [2, None, 6, 8]
    assert isinstance(answers[1], asyncio.CancelledError)
    assert session.ran[1] == [1, 3, 4]
    assert events.cancelled == 1


async def test_who_leaves_at_their_deadline_has_expired(made):
    """Their clock is a little ahead of the one here, or the loop is busy when theirs ends."""
    session, events, make = made
    batcher = await make()
    first = await busy(batcher, session)
    task = asyncio.create_task(batcher.submit(1, time.monotonic() + LONG))
    await until(lambda: batcher.depth == 1)
    next(iter(batcher._queues)).deadline = time.monotonic() + 0.01
    task.cancel()
    await settle()
    assert (task.cancelled(), events.cancelled, events.expired) == (True, 0, 1)
    session.gate.set()
    await first


async def test_an_item_cancelled_while_queued_counts_once(made):
    session, events, make = made
    batcher = await make()
    first = await busy(batcher, session)
    task = asyncio.create_task(batcher.submit(1, time.monotonic() + LONG))
    await until(lambda: batcher.depth == 1)
    task.cancel()
    await settle()
    assert (task.cancelled(), events.cancelled, events.depth) == (True, 1, 0)
    session.gate.set()
    assert (await first).batch_size == 1
    assert (events.cancelled, events.expired, session.ran) == (1, 0, [[0]])


async def test_an_item_cancelled_just_before_it_is_taken_counts_once_and_does_not_run(made):
    session, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        tasks = [asyncio.create_task(batcher.submit(n, None)) for n in (1, 2)]
        await settle()
    tasks[0].cancel()  # the consumer has been woken already, and takes first
    assert (await asyncio.wait_for(tasks[1], 5)).batch_size == 1
    assert (tasks[0].cancelled(), events.cancelled, session.ran) == (True, 1, [[2]])


async def test_an_item_cancelled_as_its_deadline_passes_has_expired_once(made):
    session, events, make = made
    batcher = await make()
    first = await busy(batcher, session)
    due = time.monotonic() + 0.04
    task = asyncio.create_task(batcher.submit(1, due))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(due - 0.001, task.cancel)
    time.sleep(0.05)  # noqa: ASYNC251 - so that the loop finds both at once
    await asyncio.wait([task])
    assert (task.cancelled(), events.cancelled, events.expired) == (True, 0, 1)
    session.gate.set()
    await first


async def test_an_item_cancelled_while_its_batch_lingers_counts_once(made):
    session, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        tasks = [asyncio.create_task(batcher.submit(n, None)) for n in (1, 2)]
        await settle()
        tasks[0].cancel()
        await settle()
        assert (events.cancelled, events.depth, events.batches) == (1, 1, [])
    assert (await asyncio.wait_for(tasks[1], 5)).result == 4
    assert (events.cancelled, session.ran) == (1, [[2]])


async def test_the_only_item_cancelled_while_its_batch_lingers_starts_no_batch(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        task = asyncio.create_task(batcher.submit(1, None))
        await settle()
        task.cancel()
        await settle()
    await settle()
    assert (events.cancelled, events.batches) == (1, [])
    assert (await asyncio.wait_for(batcher.submit(2, None), 5)).result == 4


async def test_an_item_cancelled_while_running_counts_once_and_harms_nobody(made):
    session, events, make = made
    session.gate.clear()
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        tasks = [asyncio.create_task(batcher.submit(n, None)) for n in (1, 2, 3)]
        await settle()
    await until(lambda: session.begun == [[1, 2, 3]])
    tasks[1].cancel()
    await settle()
    assert (tasks[1].cancelled(), events.cancelled) == (True, 1)
    session.gate.set()
    answers = await asyncio.wait_for(asyncio.gather(tasks[0], tasks[2]), 5)
    assert [(answer.result, answer.batch_size) for answer in answers] == [(2, 3), (6, 3)]
    assert (session.ran, events.batches, events.cancelled) == ([[1, 2, 3]], [3], 1)
