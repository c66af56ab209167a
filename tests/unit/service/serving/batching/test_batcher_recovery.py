"""A consumer that dies starts again, a batch that hangs is reported, and a drain ends."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from batchers import LONG, busy, consumer, settle, until
from textcam_service.errors import (
    SessionFailed,
    ShuttingDown,
)
from textcam_service.serving.batching import batcher as batcher_module
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.deadlines import BatchLimits


async def test_drain_finishes_queued_work_and_refuses_new(made):
    session, _, make = made
    batcher = await make()
    first = await busy(batcher, session)
    second = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    draining = asyncio.create_task(batcher.drain(5))
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await batcher.submit(9, None)
    session.gate.set()
    await draining
    assert [(await first).result, (await second).result] == [0, 2]


async def test_drain_that_runs_out_of_time_leaves_nobody_waiting(made):
    session, _, make = made
    batcher = await make()
    first = await busy(batcher, session)
    second = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    await batcher.drain(0.05)
    for task in (first, second):
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(task, 2)


async def test_a_stop_in_the_middle_of_a_batch_answers_each_item_once(made, caplog):
    session, events, make = made
    batcher = await make()
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    running = await busy(batcher, session)
    queued, left = (asyncio.create_task(batcher.submit(n, time.monotonic() + LONG)) for n in (1, 2))
    await until(lambda: batcher.depth == 2)
    left.cancel()
    await batcher.drain(0)
    for task in (running, queued):
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(task, 5)
    with pytest.raises(ShuttingDown):
        await batcher.submit(9, None)
    session.gate.set()
    await until(lambda: session.ran == [[0]])
    await settle()
    assert (left.cancelled(), events.cancelled, events.expired, events.depth) == (True, 1, 0, 0)
    assert (faults, [r for r in caplog.records if r.levelno >= logging.ERROR]) == ([], [])


async def test_a_consumer_that_dies_loses_its_batch_alone_and_starts_again(made, caplog):
    session, events, make = made
    told = []
    batcher = await make(on_health_change=told.append)
    running = await busy(batcher, session)
    queued = asyncio.create_task(batcher.submit(1, time.monotonic() + LONG))
    await until(lambda: batcher.depth == 1)
    consumer().cancel()
    with pytest.raises(SessionFailed) as lost:
        await asyncio.wait_for(running, 5)
    assert lost.value.retry_after_s > 0
    session.gate.set()
    assert (await asyncio.wait_for(queued, 5)).result == 2
    assert (await asyncio.wait_for(batcher.submit(3, None), 5)).result == 6
    assert (told, events.restarts, events.depth) == ([False, True], 1, 0)
    assert [record.message for record in caplog.records] == ["the batcher failed; it starts again"]


async def test_a_consumer_is_healthy_only_once_what_it_needs_is_back(made, caplog):
    _, events, make = made
    told, tries = [], []

    async def probe():
        tries.append(len(told))
        if len(tries) < 3:
            raise RuntimeError("the session is gone")

    batcher = await make(probe=probe, on_health_change=told.append)
    consumer().cancel()
    await until(lambda: told == [False, True])
    assert (tries, events.restarts) == ([1, 1, 1], 1)
    assert (await asyncio.wait_for(batcher.submit(3, None), 5)).result == 6


async def test_nobody_waits_for_a_session_that_does_not_come_back(made):
    session, _, make = made
    told, back = [], asyncio.Event()

    async def probe():
        if not back.is_set():
            raise RuntimeError("the device is gone")

    batcher = await make(probe=probe, on_health_change=told.append)
    running = await busy(batcher, session)
    queued = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    consumer().cancel()
    for lost in (running, queued):
        with pytest.raises(SessionFailed):
            await asyncio.wait_for(lost, 5)
    with pytest.raises(SessionFailed, match="retry on another replica") as refused:
        await batcher.submit(2, None)
    assert refused.value.retry_after_s > 0
    session.gate.set()
    back.set()
    await until(lambda: told == [False, True])
    assert (await asyncio.wait_for(batcher.submit(3, None), 5)).result == 6


async def test_a_batch_that_hangs_is_told_and_nobody_else_is_let_in_until_it_ends(
    made, monkeypatch
):
    session, _, make = made
    monkeypatch.setattr(batcher_module, "_HANG_S", 0.05)
    told = []
    batcher = await make(on_health_change=told.append)
    running = await busy(batcher, session)
    await until(lambda: told == [False])
    with pytest.raises(SessionFailed):
        await batcher.submit(1, None)
    session.gate.set()
    assert (await asyncio.wait_for(running, 5)).result == 0
    assert told == [False, True]
    assert (await asyncio.wait_for(batcher.submit(2, None), 5)).result == 4


@pytest.mark.parametrize(("good_life_s", "pauses"), [(LONG, [1, 2, 4, 8]), (0.0, [1, 1, 1, 1])])
async def test_a_consumer_that_had_recovered_starts_again_soon(
    made, monkeypatch, good_life_s, pauses
):
    monkeypatch.setattr(batcher_module, "_RECOVERED_AFTER_S", good_life_s)
    monkeypatch.setattr(batcher_module, "_FIRST_PAUSE_S", 1e-3)
    _, events, make = made
    slept, sleep = [], asyncio.sleep

    async def noted(seconds):
        if asyncio.current_task().get_name() == "textcam-supervisor":
            slept.append(round(seconds * 1e3))
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    told = []
    await make(on_health_change=told.append)
    for count in range(1, 5):
        consumer().cancel()
        await until(lambda count=count: told.count(True) == count)
    assert (slept, events.restarts) == (pauses, 4)


@pytest.mark.parametrize("broken", [True, False])
async def test_a_session_that_fails_in_a_row_is_looked_at(made, caplog, broken):
    """Its items may be at fault, or the session: only a run of something sound tells."""
    _, events, make = made
    told, looks, mended = [], [], asyncio.Event()

    async def probe():
        looks.append(len(told))
        if broken and not mended.is_set():
            raise RuntimeError("the device is gone")

    batcher = await make(probe=probe, on_health_change=told.append)
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(ValueError, match="damaged"):
                await batcher.submit(ValueError("damaged"), None)
        assert (await batcher.submit(1, None)).result == 2
    assert looks == []
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"):
            await batcher.submit(ValueError("damaged"), None)
    await until(lambda: told == [False] if broken else looks == [0])
    mended.set()
    await until(lambda: told == ([False, True] if broken else []))
    assert (await asyncio.wait_for(batcher.submit(1, None), 5)).result == 2
    assert (told, events.restarts) == (([False, True], 1) if broken else ([], 0))


async def test_an_item_cancelled_while_running_stays_cancelled_when_the_batcher_stops(made):
    session, events, make = made
    batcher = await make()
    running = await busy(batcher, session)
    queued = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    running.cancel()
    await batcher.drain(0)
    with pytest.raises(ShuttingDown):
        await asyncio.wait_for(queued, 5)
    assert (running.cancelled(), events.cancelled) == (True, 1)


async def test_a_consumer_cancelled_before_it_began_starts_again(made):
    _, _, make = made
    batcher = await make()
    consumer().cancel()
    assert (await asyncio.wait_for(batcher.submit(1, None), 5)).result == 2


async def test_a_consumer_cancelled_while_it_lingers_loses_nothing(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None):
        task = asyncio.create_task(batcher.submit(1, None))
        await settle()
        consumer().cancel()
        await until(lambda: events.restarts == 1)
    assert (await asyncio.wait_for(task, 5)).result == 2


async def test_a_drain_waits_for_what_was_admitted_but_not_for_company(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    with batcher.admit(None) as slot:
        task = asyncio.create_task(batcher.submit(1, None))
        await settle()
        draining = asyncio.create_task(batcher.drain(5))
        assert (await asyncio.wait_for(task, 5)).result == 2
        with pytest.raises(ShuttingDown):
            batcher.admit(None)
        assert (await asyncio.wait_for(slot.submit(2), 5)).result == 4
    await asyncio.wait_for(draining, 5)
    assert events.batches == [1, 1]


async def test_a_drain_ends_a_consumer_that_cannot_start(made, caplog):
    _, events, _ = made
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    batcher = Batcher(lambda items: items, BatchLimits(), executor, events)
    await batcher.start()
    with pytest.raises(SessionFailed):
        await asyncio.wait_for(batcher.submit(1, None), 5)
    second = asyncio.create_task(batcher.submit(2, None))
    await asyncio.sleep(0)
    await asyncio.wait_for(batcher.drain(0), 5)
    with pytest.raises((ShuttingDown, SessionFailed)):
        await second
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("textcam")]
