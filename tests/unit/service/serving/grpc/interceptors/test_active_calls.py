"""A stop waits for unary calls and ends streams."""

import asyncio
import time

import grpc
import pytest
from batchers import until
from echo_server import Echo, explain, explain_stream, served
from textcam.v1 import explainer_pb2 as pb
from textcam_service.serving.grpc.interceptors.active_calls import ActiveCalls


class Slow(Echo):
    """Responds to a unary call once its gate is open."""

    def __init__(self):
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    async def Explain(self, request, context):  # noqa: N802 - the contract's name
        self.begun.set()
        await self.gate.wait()
        return pb.ExplainResponse(request_id=request.request_id)


async def test_a_wait_lasts_until_the_open_unary_calls_have_ended():
    calls, servicer = ActiveCalls(), Slow()
    async with served(calls, servicer=servicer) as channel:
        await calls.wait_unary(10)  # there is none
        call = explain(channel)(pb.ExplainRequest().SerializeToString())
        await servicer.begun.wait()
        began = time.monotonic()
        await calls.wait_unary(0.05)
        assert time.monotonic() - began >= 0.04
        waiting = asyncio.create_task(calls.wait_unary(10))
        servicer.gate.set()
        await asyncio.wait_for(waiting, 5)
        assert await call == pb.ExplainResponse().SerializeToString()


async def test_streams_that_stay_open_are_ended_with_an_error():
    calls = ActiveCalls()
    async with served(calls) as channel:
        stream = explain_stream(channel)()
        await stream.write(pb.ExplainStreamRequest().SerializeToString())
        await stream.read()
        await asyncio.wait_for(calls.end_streams(0.05), 5)
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down; retry on another") as ended:
            await stream.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_whose_client_leaves_is_forgotten():
    calls = ActiveCalls()
    async with served(calls) as channel:
        stream = explain_stream(channel)()
        await stream.write(pb.ExplainStreamRequest().SerializeToString())
        await stream.read()
        assert len(calls._streams) == 1
        stream.cancel()
        await until(lambda: not calls._streams)
