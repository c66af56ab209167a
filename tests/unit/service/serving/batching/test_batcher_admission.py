"""Items are rejected at admission, or expire, by deadline, queue and share."""

import asyncio
import threading
import time

import pytest
from batchers import LONG, busy, seed_slow, until
from textcam_service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    QueueFull,
)
from textcam_service.serving.batching import deadlines
from textcam_service.serving.batching.scheduling import Lane


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
    seed_slow(batcher, LONG)
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
    seed_slow(batcher, step)
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
    seed_slow(batcher, 0.2)
    first = await busy(batcher, session)
    with batcher.admit(None, max_wait_s=0.5), pytest.raises(QueueFull) as refused:  # done after 0.4
        batcher.admit(time.monotonic() + LONG, max_wait_s=0.5)  # after 0.6
    assert "allows at most 0.500 s" in str(refused.value)
    assert 0.05 <= refused.value.retry_after_s <= 0.1
    assert events.reasons == ["QUEUE_FULL"]
    session.gate.set()
    await first


async def test_an_idle_session_takes_what_is_slow_by_itself(made):
    """However short the patience: nothing would ever be answered, and no prediction mended."""
    _, events, make = made
    batcher = await make()
    seed_slow(batcher, LONG)
    with batcher.admit(None, max_wait_s=0.001) as slot:
        assert (await asyncio.wait_for(slot.submit(1), 5)).result == 2
    assert events.reasons == []


async def test_what_items_wait_for_beside_the_session_counts_in_the_prediction(made):
    """Under overload decoding takes the cores that inference wants."""
    session, events, make = made
    batcher = await make()
    for _ in range(9):
        with batcher.admit(None) as slot:
            await asyncio.sleep(0.05)  # the image is being decoded
            await slot.submit(1)
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
    seed_slow(batcher, LONG)
    with pytest.raises(DeadlineExpired, match=r"single image takes about 60 s"):
        await batcher.submit(1, time.monotonic() + 0.4 * LONG)
    # A wrong prediction would never be mended if nothing ran.
    assert (await asyncio.wait_for(batcher.submit(1, time.monotonic() + 0.6 * LONG), 5)).result == 2
    assert events.expired == 1


async def test_a_prediction_that_is_out_of_date_refuses_nobody(made, monkeypatch):
    """What it refused would have shown that it is wrong."""
    _, events, make = made
    batcher = await make()
    seed_slow(batcher, LONG)
    monkeypatch.setattr(deadlines, "_TRUST_S", 0.0)
    for _ in range(9):
        hurried = time.monotonic() + 0.1 * LONG
        assert (await asyncio.wait_for(batcher.submit(1, hurried), 5)).result == 2
    monkeypatch.setattr(deadlines, "_TRUST_S", LONG)
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
