"""The micro-batcher, with a run function that blocks until told.

Waits that must not happen are made a minute long; each test gives up after seconds.
"""

import asyncio
import logging
import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from textcam_service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    QueueFull,
    SessionFailed,
    ShuttingDown,
)
from textcam_service.serving.batching import batcher as batcher_module
from textcam_service.serving.batching import queues
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.queues import BatchLimits
from textcam_service.serving.batching.scheduling import Lane

LONG = 60.0
HOOKS = ("on_batch", "on_depth", "on_expired", "on_cancelled", "on_rejected")


class Events:
    def __init__(self):
        self.batches, self.expired, self.cancelled, self.rejected, self.depth = [], 0, 0, 0, 0
        self.reasons, self.restarts = [], 0

    def on_batch(self, size):
        self.batches.append(size)

    def on_depth(self, depth):
        self.depth = depth

    def on_expired(self):
        self.expired += 1

    def on_cancelled(self):
        self.cancelled += 1

    def on_rejected(self, reason):
        self.rejected += 1
        self.reasons.append(reason)

    def on_restart(self):
        self.restarts += 1


class Session:
    """Doubles its items once its gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.begun, self.ran = [], []

    def run(self, items):
        self.begun.append(list(items))
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

        async def make(run=None, hooks=events, revive=None, tell_health=None, **limits):
            batcher = Batcher(
                run or session.run, BatchLimits(**limits), executor, hooks, revive, tell_health
            )
            batcher.expect(1, 0.0)  # as if nothing took time: deadlines are what is tested
            await batcher.start()
            batchers.append(batcher)
            return batcher

        yield session, events, make
        session.gate.set()
        for batcher in batchers:
            await batcher.drain(5)


def slow(batcher, seconds):
    """As if every batch had taken so long."""
    for size in range(1, 9):
        for _ in range(9):
            batcher.expect(size, seconds)


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never came true")


async def settle():
    """Let the loop do all it can do without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


def consumer():
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "textcam-batcher")
    return task


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"max_batch": 0}, "max_batch is 0; give a whole number of at least 1"),
        ({"max_batch": 2.5}, "max_batch is 2.5; give a whole number"),
        ({"max_queue": -3}, "max_queue is -3; give a whole number of at least 1"),
        ({"max_delay_s": -0.1}, "max_delay_s is -0.1; give finite seconds, 0 or more"),
        ({"max_delay_s": math.inf}, "max_delay_s is inf"),
        ({"max_delay_s": math.nan}, "max_delay_s is nan"),
    ],
)
def test_limits_out_of_range_are_refused_with_the_mend(limits, fault):
    with pytest.raises(ValueError, match=fault):
        BatchLimits(**limits)


def test_the_least_limits_are_allowed():
    BatchLimits(max_batch=1, max_delay_s=0, max_queue=1)


async def test_an_idle_batcher_does_not_wait(made):
    _, events, make = made
    batcher = await make(max_delay_s=LONG)
    answer = await asyncio.wait_for(batcher.submit(4, None), 5)
    assert (answer.result, answer.batch_size, events.batches) == (8, 1, [1])


async def busy(batcher, session):
    session.gate.clear()
    first = asyncio.create_task(batcher.submit(0, None))
    await until(lambda: session.begun[-1:] == [[0]])
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
    slow(batcher, LONG)  # so that the linger has to end now for the near one
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
    slow(batcher, LONG)
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
    with pytest.raises(DeadlineExpired):
        await asyncio.wait_for(batcher.submit(1, time.monotonic() + 0.05), 5)
    with pytest.raises(DeadlineExpired):
        await batcher.submit(2, time.monotonic() - 1)
    session.gate.set()
    await first
    assert session.ran == [[0]]
    assert (events.expired, events.cancelled, events.depth) == (2, 0, 0)


async def test_an_item_whose_deadline_passes_during_its_own_inference_is_answered(made):
    session, events, make = made
    session.gate.clear()
    batcher = await make()
    task = asyncio.create_task(batcher.submit(1, time.monotonic() + 0.04))
    await until(lambda: session.begun == [[1]])
    await asyncio.sleep(0.05)
    session.gate.set()
    assert ((await task).result, events.expired) == (2, 0)


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


def faulty(fault):
    """Events that count, then raise."""

    def breaking(name):
        def hook(self, *values):
            getattr(Events, name)(self, *values)
            raise fault

        return hook

    return type("Faulty", (Events,), {name: breaking(name) for name in HOOKS})()


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
    assert len(caplog.records) == len(HOOKS)
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
    assert "a batch of 4 failed (ValueError('boom')); each runs by itself" in caplog.text


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
    batcher = await make(tell_health=told.append)
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

    async def revive():
        tries.append(len(told))
        if len(tries) < 3:
            raise RuntimeError("the session is gone")

    batcher = await make(revive=revive, tell_health=told.append)
    consumer().cancel()
    await until(lambda: told == [False, True])
    assert (tries, events.restarts) == ([1, 1, 1], 1)
    assert (await asyncio.wait_for(batcher.submit(3, None), 5)).result == 6


async def test_nobody_waits_for_a_session_that_does_not_come_back(made):
    session, _, make = made
    told, back = [], asyncio.Event()

    async def revive():
        if not back.is_set():
            raise RuntimeError("the device is gone")

    batcher = await make(revive=revive, tell_health=told.append)
    running = await busy(batcher, session)
    queued = asyncio.create_task(batcher.submit(1, None))
    await until(lambda: batcher.depth == 1)
    consumer().cancel()
    for lost in (running, queued):
        with pytest.raises(SessionFailed):
            await asyncio.wait_for(lost, 5)
    with pytest.raises(SessionFailed, match="another replica will answer") as refused:
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
    monkeypatch.setattr(batcher_module, "_HANGS_S", 0.05)
    told = []
    batcher = await make(tell_health=told.append)
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
    monkeypatch.setattr(batcher_module, "_GOOD_LIFE_S", good_life_s)
    monkeypatch.setattr(batcher_module, "_FIRST_PAUSE_S", 1e-3)
    _, events, make = made
    slept, sleep = [], asyncio.sleep

    async def noted(seconds):
        if asyncio.current_task().get_name() == "textcam-supervisor":
            slept.append(round(seconds * 1e3))
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    told = []
    await make(tell_health=told.append)
    for count in range(1, 5):
        consumer().cancel()
        await until(lambda count=count: told.count(True) == count)
    assert (slept, events.restarts) == (pauses, 4)


@pytest.mark.parametrize("broken", [True, False])
async def test_a_session_that_fails_in_a_row_is_looked_at(made, caplog, broken):
    """Its items may be at fault, or the session: only a run of something sound tells."""
    _, events, make = made
    told, looks, mended = [], [], asyncio.Event()

    async def revive():
        looks.append(len(told))
        if broken and not mended.is_set():
            raise RuntimeError("the device is gone")

    batcher = await make(revive=revive, tell_health=told.append)
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
    with batcher.admit(None) as place:
        task = asyncio.create_task(batcher.submit(1, None))
        await settle()
        draining = asyncio.create_task(batcher.drain(5))
        assert (await asyncio.wait_for(task, 5)).result == 2
        with pytest.raises(ShuttingDown):
            batcher.admit(None)
        assert (await asyncio.wait_for(place.fill(2), 5)).result == 4
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


async def test_the_earliest_deadline_runs_first(made):
    session, _, make = made
    batcher = await make(max_batch=2)
    first = await busy(batcher, session)
    now, step = time.monotonic(), LONG / 6
    dues = {1: None, 2: now + 3 * step, 3: now + step, 4: now + 2 * step, 5: None}
    rest = [asyncio.create_task(batcher.submit(n, due)) for n, due in dues.items()]
    await until(lambda: batcher.depth == 5)
    session.gate.set()
    await asyncio.gather(first, *rest)
    assert session.ran == [[0], [3, 4], [2, 1], [5]]


async def test_an_item_that_would_be_late_is_refused_at_once_and_says_when_to_come_back(made):
    session, events, make = made
    batcher = await make(max_batch=1)
    slow(batcher, LONG)
    first = await busy(batcher, session)
    with pytest.raises(DeadlineUnreachable) as refused:
        batcher.admit(time.monotonic() + 1.5 * LONG)
    assert refused.value.retry_after_s == pytest.approx(0.5 * LONG, abs=5)
    assert (events.rejected, events.reasons) == (1, ["DEADLINE_UNREACHABLE"])
    with batcher.admit(time.monotonic() + 2.5 * LONG):
        pass
    session.gate.set()
    await first


async def test_an_item_that_would_make_another_late_is_refused(made):
    session, _, make = made
    batcher, step = await make(max_batch=1), LONG / 10
    slow(batcher, step)
    first = await busy(batcher, session)
    now = time.monotonic()
    with batcher.admit(now + 3.2 * step):  # done after two
        # Before it, so that it is done after three.
        with batcher.admit(now + 2.5 * step), pytest.raises(DeadlineUnreachable):
            batcher.admit(now + 2.4 * step)
        with batcher.admit(now + 9 * step):  # behind it
            pass
    session.gate.set()
    await first


async def test_a_wait_beyond_the_callers_patience_is_refused_at_admission(made):
    """Whatever its deadline; and what is refused is told when there will be room."""
    session, events, make = made
    batcher = await make(max_batch=1)
    slow(batcher, 0.2)
    first = await busy(batcher, session)
    with batcher.admit(None, max_wait_s=0.5), pytest.raises(QueueFull) as refused:  # done after 0.4
        batcher.admit(time.monotonic() + LONG, max_wait_s=0.5)  # after 0.6
    assert "lets nobody wait over 0.500 s" in str(refused.value)
    assert 0.05 <= refused.value.retry_after_s <= 0.1
    assert events.reasons == ["QUEUE_FULL"]
    session.gate.set()
    await first


async def test_an_idle_session_takes_what_is_slow_by_itself(made):
    """However short the patience: nothing would ever be answered, and no prediction mended."""
    _, events, make = made
    batcher = await make()
    slow(batcher, LONG)
    with batcher.admit(None, max_wait_s=0.001) as place:
        assert (await asyncio.wait_for(place.fill(1), 5)).result == 2
    assert events.reasons == []


async def test_what_items_wait_for_beside_the_session_counts_in_the_prediction(made):
    """Under overload decoding takes the cores that inference wants."""
    session, events, make = made
    batcher = await make()
    for _ in range(9):
        with batcher.admit(None) as place:
            await asyncio.sleep(0.05)  # the image is being decoded
            await place.fill(1)
    first = await busy(batcher, session)
    with pytest.raises(DeadlineUnreachable):
        batcher.admit(time.monotonic() + 0.04)
    with batcher.admit(time.monotonic() + LONG):
        pass
    session.gate.set()
    await first
    assert events.reasons == ["DEADLINE_UNREACHABLE"]


async def test_an_idle_session_refuses_only_what_is_hopeless(made):
    _, events, make = made
    batcher = await make()
    slow(batcher, LONG)
    with pytest.raises(DeadlineExpired, match=r"alone takes about 60\.000 s"):
        await batcher.submit(1, time.monotonic() + 0.4 * LONG)
    # A wrong prediction would never be mended if nothing ran.
    assert (await asyncio.wait_for(batcher.submit(1, time.monotonic() + 0.6 * LONG), 5)).result == 2
    assert events.expired == 1


async def test_a_prediction_that_is_out_of_date_refuses_nobody(made, monkeypatch):
    """What it refused would have shown that it is wrong."""
    _, events, make = made
    batcher = await make()
    slow(batcher, LONG)
    monkeypatch.setattr(queues, "_TRUST_S", 0.0)
    for _ in range(9):
        hurried = time.monotonic() + 0.1 * LONG
        assert (await asyncio.wait_for(batcher.submit(1, hurried), 5)).result == 2
    monkeypatch.setattr(queues, "_TRUST_S", LONG)
    assert (await batcher.submit(1, time.monotonic() + 0.1 * LONG)).result == 2
    assert events.expired == 0


async def test_an_item_late_by_the_time_its_thread_is_free_does_not_run(made):
    session, events, make = made
    batcher = await make()
    hold = threading.Event()
    batcher._executor.submit(hold.wait, 10)  # another user of the session's thread
    late = asyncio.create_task(batcher.submit(1, time.monotonic() + 0.03))
    other = asyncio.create_task(batcher.submit(2, None))
    await asyncio.sleep(0.06)
    hold.set()
    with pytest.raises(DeadlineExpired):
        await asyncio.wait_for(late, 5)
    assert (await asyncio.wait_for(other, 5)).result == 4
    assert (session.ran, events.expired, sum(events.batches)) == ([[2]], 1, 1)


async def test_audit_items_get_their_share_of_full_batches(made):
    session, _, make = made
    batcher = await make(max_batch=4, audit_share=0.25)
    first = await busy(batcher, session)
    now = [asyncio.create_task(batcher.submit(n, None)) for n in range(1, 13)]
    audits = [asyncio.create_task(batcher.submit(n, None, Lane.AUDIT)) for n in range(101, 104)]
    await until(lambda: batcher.depth == 15)
    session.gate.set()
    await asyncio.gather(first, *now, *audits)
    assert session.ran[1:] == [[1, 2, 3, 4], [5, 6, 7, 101], [8, 9, 10, 102], [11, 12, 103]]


async def test_each_lane_has_a_queue_of_its_own(made):
    session, _, make = made
    batcher = await make(max_queue=1)
    first = await busy(batcher, session)
    with batcher.admit(None, Lane.AUDIT):
        assert (batcher.pressure(Lane.AUDIT), batcher.pressure(Lane.INTERACTIVE)) == (1, 0)
        with pytest.raises(QueueFull):
            batcher.admit(None, Lane.AUDIT)
        with batcher.admit(None):
            pass
    session.gate.set()
    await first


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
