"""Three replicas, one of which ends every few seconds: the SDK's callers see no error."""

import asyncio
import shutil
import signal

import pytest
from fault_callers import under_load
from fault_replicas import haproxy, replicas
from fault_world import Ledger


async def callers_see_no_error(world, address, fleet, size, figures, number=signal.SIGKILL):
    books = [Ledger(world.samples) for _ in range(3)]
    async with under_load(address, *books):
        await asyncio.sleep(0.5)
        await fleet.end_by_turns(number, size(2, 12), size(1.0, 5.0))
    figures["ended"] = fleet.ended
    for kind, ledger in zip(("unary", "streamed", "threaded"), books, strict=True):
        figures[kind] = ledger.settle()
    assert [dict(ledger.failures) for ledger in books] == [{}, {}, {}]


async def test_killed_behind_client_side_round_robin(world, size, figures):
    with replicas(world) as fleet:
        await callers_see_no_error(world, fleet.address, fleet, size, figures)


@pytest.mark.skipif(
    not shutil.which("haproxy"),
    reason="NOT TESTED: haproxy is not installed (apt-get install haproxy)",
)
async def test_killed_behind_haproxy(world, size, figures, tmp_path):
    with replicas(world) as fleet, haproxy(fleet.ports, tmp_path) as address:
        await callers_see_no_error(world, address, fleet, size, figures)


async def test_restarted_in_turn_behind_client_side_round_robin(world, size, figures):
    with replicas(world) as fleet:
        await callers_see_no_error(world, fleet.address, fleet, size, figures, signal.SIGTERM)


async def test_one_stands_still_behind_client_side_round_robin(world, size, figures):
    """Nothing tells the callers but that their pings are not answered."""
    books = [Ledger(world.samples) for _ in range(3)]
    with replicas(world) as fleet:
        async with under_load(fleet.address, *books):
            await asyncio.sleep(0.5)
            still = asyncio.create_task(fleet.stand_still(0, size(22, 60)))
            await asyncio.sleep(20)  # a ping after 10 s, and 5 s for its answer
            before = [ledger.sent for ledger in books]
            await still
            after = [ledger.sent for ledger in books]
    for kind, ledger in zip(("unary", "streamed", "threaded"), books, strict=True):
        figures[kind] = ledger.settle()
    assert [dict(ledger.failures) for ledger in books] == [{}, {}, {}]
    assert all(late > early for early, late in zip(before, after, strict=True)), "still waiting"
