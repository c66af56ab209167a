"""AsyncClient.explain_many against a loopback server."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from client_samples import eventually, make_png
from client_streams import images_of, is_first, widths
from textcam_client import (
    ClientClosed,
    UnsupportedImage,
)


@pytest.fixture
def slow_caller(server, clock):
    """Called with the first answer: all others are refused while the caller takes 100 seconds."""
    taken = threading.Event()

    def latency(request) -> float:
        if request.pixels.shape[1] != 20:
            taken.wait(20)
        return 0.0

    def looks_at(answer) -> None:
        assert answer.image_size == (10, 20)
        server.fail_with("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after=0.01, times=3)
        taken.set()
        clock.put_forward(100.0)

    server.latency = latency
    return looks_at


async def test_async_images_are_pulled_no_further_ahead_either(server):
    pulled = 0

    async def images():
        nonlocal pulled
        for image in images_of(10):
            pulled += 1
            await asyncio.sleep(0)
            yield image

    async with server.async_client() as client:
        seen = 0
        async for answer in client.explain_many(images(), concurrency=3):
            seen += 1
            assert answer.image_size[1] == 19 + seen
            assert pulled <= min(10, seen + 3)
    assert seen == 10
    assert server.peak_in_flight <= 3


async def test_an_async_raised_error_lets_the_next_call_go_on_too(server):
    async with server.async_client() as client:
        answers = client.explain_many([make_png(0), None, make_png(1)])
        assert await anext(answers)
        with pytest.raises(UnsupportedImage):
            await anext(answers)
        assert await anext(answers)
        with pytest.raises(StopAsyncIteration):
            await anext(answers)


async def test_a_slow_async_caller_does_not_make_others_expire(server, slow_caller):
    async with server.async_client(timeout=20.0) as client:
        answers = client.explain_many(images_of(4), concurrency=3, on_error="return")
        slow_caller(await anext(answers))
        assert widths([answer async for answer in answers]) == [21, 22, 23]


async def test_leaving_early_cancels_the_async_stream_and_leaves_no_task(server):
    server.latency = lambda request: 0.0 if is_first(request) else 30.0
    async with server.async_client() as client:
        await client.models()
        before = asyncio.all_tasks()
        async with client.explain_many(images_of(20)) as answers:
            assert (await anext(answers)).image_size == (10, 20)
        assert await asyncio.to_thread(eventually, lambda: server.open_streams == 0)
        assert asyncio.all_tasks() <= before


async def test_closing_the_async_client_ends_a_run_with_an_error(server):
    server.latency = 0.01
    client = server.async_client()
    answers = client.explain_many(images_of(50), on_error="return")
    await anext(answers)
    await client.close()
    start = time.monotonic()
    with pytest.raises(ClientClosed):
        async for _ in answers:
            pass
    assert time.monotonic() - start < 10
