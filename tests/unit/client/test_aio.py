"""The asyncio client and its event loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from client_samples import eventually
from textcam_client import (
    Cancelled,
)


async def test_closing_ends_an_async_call_in_flight_with_cancelled_not_its_task(server, png):
    server.latency = 20.0
    client = server.async_client()
    task = asyncio.create_task(client.explain(png, request_id="r"))
    assert await asyncio.to_thread(eventually, lambda: bool(server.requests))
    await client.close()
    with pytest.raises(Cancelled, match="its client was closed") as caught:
        await task
    assert caught.value.request_id == "r"


async def test_cancelling_a_task_cancels_its_call(server, png):
    server.latency = 5.0
    async with server.async_client() as client:
        task = asyncio.create_task(client.explain(png))
        assert await asyncio.to_thread(eventually, lambda: bool(server.requests))
        task.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - start < 4


def test_an_async_client_may_be_made_outside_of_any_loop(server, png):
    client = server.async_client()

    async def use():
        async with client:
            return await client.explain(png)

    assert asyncio.run(use()).image_size == (60, 90)
