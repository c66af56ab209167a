"""Callers who leave at random, while others are answered."""

import asyncio
import random

from fault_callers import LEFT, ask, ask_many, load
from fault_processes import serving, until
from fault_world import Ledger
from textcam_client import AsyncClient

AT_ONCE = 24
STREAMED = 8
LONGEST_S = 0.25  # about twice what an answer takes under this load


async def test_random_cancellations(world, size, figures):
    """The server forgets those who leave, at whatever moment, and answers the others rightly."""
    wanted, rng = size(150, 10_000), random.Random(5)
    leavers, stayers = Ledger(world.samples), Ledger(world.samples)
    left = 0

    async def leave_again_and_again(client):
        nonlocal left
        while left < wanted:
            streams = rng.random() < 0.1
            asking = ask_many(client, leavers, STREAMED) if streams else ask(client, leavers)
            task = asyncio.create_task(asking)
            await asyncio.wait([task], timeout=rng.uniform(0, LONGEST_S))
            left += not task.done()
            task.cancel()
            await asyncio.wait([task])

    with serving(world) as served:
        async with AsyncClient(served.address) as client:
            go_on = [True]
            staying = asyncio.create_task(load(client, stayers, lambda: bool(go_on), callers=4))
            await asyncio.gather(*(leave_again_and_again(client) for _ in range(AT_ONCE)))
            go_on.clear()
            await staying
        until(lambda: served.metric("textcam_requests_in_flight") == 0, 5, "all is forgotten")
        assert served.metric("textcam_queue_depth_images") == 0
        seen = served.metric("textcam_requests_total", code="CANCELLED")
    figures |= {"cancelled": left, "seen by the server": int(seen)}
    figures |= {
        "of those who left": leavers.settle(),
        "of those who stayed": stayers.settle(),
    }
    assert not stayers.failures
    assert set(leavers.failures) == {LEFT}
    assert seen
