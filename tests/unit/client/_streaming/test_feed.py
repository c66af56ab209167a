"""Images of a run on an event loop."""

from __future__ import annotations

import asyncio

import pytest
from client_samples import make_png
from client_streams import images_of
from textcam_client import (
    Cancelled,
)


async def test_no_answer_waits_for_the_next_image(server):
    """Each image but the first comes of the answer to the one before it."""
    queue: asyncio.Queue = asyncio.Queue()
    task_of_image = []

    async def images():
        while (image := await queue.get()) is not None:
            task_of_image.append(asyncio.current_task())
            yield image

    async def widths_in_turn(client) -> list[int]:
        first, *others = images_of(3)
        queue.put_nowait(first)
        seen = []
        async for answer in client.explain_many(images()):
            seen.append(answer.image_size[1])
            queue.put_nowait(others.pop(0) if others else None)
        return seen

    async with server.async_client() as client:
        assert await asyncio.wait_for(widths_in_turn(client), 20) == [20, 21, 22]
    # A generator may hold a timeout or a group, which are one task's.
    assert len(set(task_of_image)) == 1


async def test_a_run_that_waits_for_an_image_may_be_closed(server):
    asked = asyncio.Event()

    async def images():
        asked.set()
        await asyncio.Event().wait()
        yield

    before = asyncio.all_tasks()
    async with server.async_client() as client:
        answers = client.explain_many(images())
        waiting = asyncio.create_task(anext(answers))
        await asked.wait()
        await answers.close()
        with pytest.raises(Cancelled, match="this run was closed"):
            await asyncio.wait_for(waiting, 20)
    assert asyncio.all_tasks() <= before


async def test_images_that_are_cancelled_do_not_look_complete(server):
    async def images():
        yield make_png(0)
        raise asyncio.CancelledError

    async with server.async_client() as client:
        answers = client.explain_many(images())
        with pytest.raises(asyncio.CancelledError):
            await anext(answers)
        with pytest.raises(Cancelled, match="interrupted"):
            await anext(answers)
