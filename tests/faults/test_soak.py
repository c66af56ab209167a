"""Many requests of every kind to one server, whose memory must not grow."""

import asyncio
import random
from collections import Counter

from fault_callers import LEFT, ask, ask_many
from fault_processes import Memory, serving, until
from fault_world import Ledger
from textcam_client import AsyncClient, InvalidRequest, NotFound

CALLERS = 12
STREAMED = 20
FORMS = ("none", "saliency", "image", "overlay")
REFUSED = (
    (InvalidRequest, {"image": b"no image"}),
    (InvalidRequest, {"max_phrases": 99}),
    (NotFound, {"target": "unicorn"}),
)


async def test_a_soak(world, size, figures):
    wanted, ledger, rng = size(400, 100_000), Ledger(world.samples), random.Random(3)
    kinds = Counter()

    async def refused(client):
        error, fault = rng.choice(REFUSED)
        try:
            await client.explain(**{"image": world.samples[0].encoded, **fault})
        except error:
            return
        raise AssertionError(f"{fault} was not refused")

    async def leave(client):
        task = asyncio.create_task(ask(client, ledger))
        await asyncio.wait([task], timeout=rng.uniform(0, 0.05))
        task.cancel()
        await asyncio.wait([task])

    async def caller(client, memory):
        while ledger.sent < wanted:
            memory.look(ledger.sent)
            (kind,) = rng.choices(("ask", "stream", "leave", "refused"), (80, 8, 6, 6))
            kinds[kind] += 1
            if kind == "ask":
                options = {"max_phrases": rng.randint(1, 6), "heatmap": rng.choice(FORMS)}
                await ask(client, ledger, include_groups=rng.random() < 0.5, **options)
            elif kind == "stream":
                await ask_many(client, ledger, STREAMED)
            elif kind == "leave":
                await leave(client)
            else:
                await refused(client)

    with serving(world) as served:
        async with AsyncClient(served.address) as client:
            memory = Memory(served, wanted)
            await asyncio.gather(*(caller(client, memory) for _ in range(CALLERS)))
        until(lambda: served.metric("textcam_requests_in_flight") == 0, 5, "all work is done")
        figures["unexpected"] = int(served.metric("textcam_unexpected_errors_total"))
    figures |= ledger.settle() | {"by kind": dict(kinds)} | memory.figures()
    assert set(ledger.failures) <= {LEFT}
    assert figures["unexpected"] == 0
    if size(False, True):
        assert figures["growth %"] < 3
