"""The micro-batcher, with a run function that blocks until told."""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from textcam_service.errors import DeadlineExpired, QueueFull, ShuttingDown
from textcam_service.serving.batcher import Batcher, BatchLimits


class Events:
    def __init__(self):
        self.batches, self.expired, self.cancelled, self.rejected, self.depth = [], 0, 0, 0, 0

    def on_batch(self, size):
        self.batches.append(size)

    def on_depth(self, depth):
        self.depth = depth

    def on_expired(self):
        self.expired += 1

    def on_cancelled(self):
        self.cancelled += 1

    def on_rejected(self):
        self.rejected += 1


class Session:
    """Doubles its items once its gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.ran = []

    def run(self, items):
        assert self.gate.wait(10)
        self.ran.append(list(items))
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [item * 2 for item in items]


@pytest.fixture
async def made():
    session, events = Session(), Events()
    with ThreadPoolExecutor(1) as executor:
        batchers = []

        async def make(run=None, **limits):
            batcher = Batcher(run or session.run, BatchLimits(**limits), executor, events)
            await batcher.start()
            batchers.append(batcher)
            return batcher

        yield session, events, make
        session.gate.set()
        for batcher in batchers:
            await batcher.drain(5)


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never came true")


async def test_an_idle_batcher_does_not_wait(made):
    _, events, make = made
    batcher = await make(max_delay_s=30)
    answer = await asyncio.wait_for(batcher.submit(4, None), 5)
    assert (answer.result, answer.batch_size, events.batches) == (8, 1, [1])


async def busy(batcher, session):
    session.gate.clear()
    first = asyncio.create_task(batcher.submit(0, None))
    await asyncio.sleep(0.02)
    return first


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
    batcher = await make(max_delay_s=5)
    with batcher.announce():
        first = asyncio.create_task(batcher.submit(1, None))
        await asyncio.sleep(0.05)
        assert not first.done()
        second = asyncio.create_task(batcher.submit(2, None))
        await asyncio.sleep(0)
    await asyncio.gather(first, second)
    assert events.batches == [2]


async def test_an_announced_item_is_not_waited_for_past_a_deadline(made):
    _, events, make = made
    batcher = await make(max_delay_s=30)
    with batcher.announce():
        answer = await asyncio.wait_for(batcher.submit(1, time.monotonic() + 0.5), 5)
    assert (answer.result, events.expired) == (2, 0)


async def test_the_wait_for_announced_items_is_bounded(made):
    _, _, make = made
    batcher = await make(max_delay_s=0.03)
    with batcher.announce():
        answer = await asyncio.wait_for(batcher.submit(1, None), 5)
    assert answer.queue_s >= 0.02


async def test_a_full_queue_refuses_with_a_retry_hint(made):
    session, events, make = made
    batcher = await make(max_queue=2)
    first = await busy(batcher, session)
    rest = [asyncio.create_task(batcher.submit(n, None)) for n in (1, 2)]
    await until(lambda: batcher.depth == 2)
    with pytest.raises(QueueFull) as refused:
        await batcher.submit(3, None)
    assert refused.value.retry_after_s >= 0.05
    assert events.rejected == 1
    session.gate.set()
    assert [a.result for a in await asyncio.gather(first, *rest)] == [0, 2, 4]


async def test_an_expired_item_is_answered_at_its_deadline_during_a_long_inference(made):
    session, events, make = made
    batcher = await make()
    first = await busy(batcher, session)
    started = time.monotonic()
    with pytest.raises(DeadlineExpired):
        await batcher.submit(1, time.monotonic() + 0.05)
    assert time.monotonic() - started < 2
    assert not session.gate.is_set()
    with pytest.raises(DeadlineExpired):
        await batcher.submit(2, time.monotonic() - 1)
    session.gate.set()
    await first
    assert session.ran == [[0]]
    assert events.expired == 2


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


async def test_a_failing_batch_fails_its_items_and_the_batcher_lives_on(made):
    _, _, make = made
    batcher = await make()
    for fault in (ValueError("boom"), StopIteration("boom"), asyncio.CancelledError("boom")):
        with pytest.raises((ValueError, RuntimeError), match="boom"):
            await asyncio.wait_for(batcher.submit(fault, None), 5)
    assert (await batcher.submit(5, None)).result == 10


async def test_a_wrong_number_of_results_is_an_error(made):
    _, _, make = made
    batcher = await make(run=lambda items: [])
    with pytest.raises(RuntimeError, match="1 items ran, but 0 results"):
        await batcher.submit(5, None)


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


async def test_five_hundred_with_random_cancellations_all_resolve_to_their_own(made):
    _, _, make = made
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
    assert batcher.depth == 0
