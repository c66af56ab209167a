"""Three replicas, one of which ends every few seconds: the SDK's callers see no error."""

import asyncio
import shutil
import signal

import pytest
from fault_callers import ALL_CLASSES, ask_many, kind_of, load
from fault_replicas import haproxy, replicas
from fault_world import Ledger
from textcam_client import AsyncClient, Client
from textcam_client.errors import CallError

STREAMED = 40


def ask_from_a_thread(address, ledger, go_on):
    """The SDK's client for threads."""
    with Client(address) as client:
        while go_on:
            request_id, sample = ledger.send()
            try:
                answer = client.explain(
                    sample.encoded, request_id=request_id, predictions=ALL_CLASSES
                )
                ledger.answered(request_id, answer)
            except CallError as error:
                ledger.failed(request_id, kind_of(error))


async def callers_see_no_error(world, address, fleet, size, figures, number=signal.SIGKILL):
    books = [Ledger(world.samples) for _ in range(3)]
    unary, streamed, threaded = books
    go_on = [True]

    async def stream_again_and_again(client):
        while go_on:
            await ask_many(client, streamed, STREAMED)

    async with AsyncClient(address) as client:
        callers = [
            asyncio.create_task(load(client, unary, lambda: bool(go_on), callers=6)),
            asyncio.create_task(stream_again_and_again(client)),
            asyncio.create_task(asyncio.to_thread(ask_from_a_thread, address, threaded, go_on)),
        ]
        await asyncio.sleep(0.5)
        await fleet.end_by_turns(number, size(2, 12), size(1.0, 5.0))
        go_on.clear()
        await asyncio.gather(*callers)
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
