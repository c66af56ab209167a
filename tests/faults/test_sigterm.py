"""SIGTERM under load: what was admitted is answered, and health says so first."""

import asyncio
import signal
import time
from dataclasses import dataclass
from statistics import median

import grpc
from fault_callers import ALL_CLASSES, kind_of
from fault_processes import serving
from fault_world import Ledger
from grpc_health.v1 import health_pb2, health_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc as pb_grpc
from textcam_client import AsyncClient
from textcam_client.errors import CallError, Unavailable

CALLERS = 96
# In this part of the usual time a request has long reached the server, on a busy machine too: most
# of it, it waits.
ARRIVED = 0.75
# Health and refusals come over two connections.
SIMULTANEOUS_S = 0.1


@dataclass
class Call:
    sent: float
    done: float
    error: CallError | None


async def call_again_and_again(client, ledger, calls):
    """Until the server refuses; nothing is tried again."""
    while not (calls and calls[-1].error):
        request_id, sample = ledger.send()
        sent, error = time.monotonic(), None
        try:
            answer = await client.explain(
                sample.encoded, request_id=request_id, prediction_count=ALL_CLASSES
            )
            ledger.answered(request_id, answer)
        except CallError as refused:
            error = refused
            ledger.failed(request_id, kind_of(refused))
        calls.append(Call(sent, time.monotonic(), error))


async def stream(stub, ledger, count):
    """Items in steady succession; each is answered, or refused by itself."""

    async def requests():
        for _ in range(count):
            request_id, sample = ledger.send()
            one = pb.ExplainRequest(
                request_id=request_id, encoded=sample.encoded, prediction_count=ALL_CLASSES
            )
            yield pb.ExplainStreamRequest(request=one)
            await asyncio.sleep(0.02)

    async for item in stub.ExplainStream(requests()):
        if item.HasField("error"):
            ledger.failed(item.request_id, item.error.message)
        else:
            ledger.answered(item.request_id, item.response)


async def told_not_serving(channel):
    """When the health service first said so."""
    watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    async for answer in watched:
        if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
            return time.monotonic()
    raise AssertionError("the watch ended, and never said NOT_SERVING")


async def one_drain(world, figures):
    calls: list[list[Call]] = [[] for _ in range(CALLERS)]
    ledger, streamed = Ledger(world.samples), Ledger(world.samples)
    with serving(world, "--max-queue", "256") as served:
        async with (
            AsyncClient(served.address, retry=None) as client,
            grpc.aio.insecure_channel(served.address) as channel,
        ):
            health = asyncio.create_task(told_not_serving(channel))
            streaming = asyncio.create_task(
                stream(pb_grpc.ExplainerServiceStub(channel), streamed, 100)
            )
            callers = [
                asyncio.create_task(call_again_and_again(client, ledger, own)) for own in calls
            ]
            await asyncio.sleep(1.2)
            served.process.send_signal(signal.SIGTERM)
            signalled = time.monotonic()
            await asyncio.gather(*callers, streaming)
            not_serving = await health
        answered = time.monotonic()
        assert await asyncio.to_thread(served.process.wait, 30) == 0
        figures["seconds to exit"] = round(time.monotonic() - answered, 1)
    every = [call for own in calls for call in own]
    usual_s = median(call.done - call.sent for call in every if call.done < signalled)
    sent_by = signalled - ARRIVED * usual_s
    admitted = [call for call in every if call.sent < sent_by and call.done > signalled]
    refused = [call for call in every if call.error]
    figures["in work at the signal"] = figures.get("in work at the signal", 0) + len(admitted)
    for books in (ledger, streamed):
        for name, value in books.settle().items():
            figures[name] = figures.get(name, 0) + value
    assert admitted
    assert not [call.error for call in admitted if call.error]
    assert refused
    assert not {repr(c.error) for c in refused if not isinstance(c.error, Unavailable)}
    assert not_serving <= min(call.done for call in refused) + SIMULTANEOUS_S
    assert not_serving <= max(call.done for call in admitted) + SIMULTANEOUS_S
    # Well before drain_seconds, though somebody watches its health.
    assert figures["seconds to exit"] < 5


async def test_sigterm_under_load(world, size, figures):
    for _ in range(size(1, 12)):
        await one_drain(world, figures)
