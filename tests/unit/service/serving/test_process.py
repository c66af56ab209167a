"""The start of a server, and a stop before it is complete."""

import asyncio

import pytest
from textcam_service.errors import InvalidSettings
from textcam_service.serving.process import _start


class Starting:
    """A server whose start takes until `ready` is set, and then may fail."""

    def __init__(self, error=None):
        self.ready, self.cancelled, self._error = asyncio.Event(), False, error

    async def start(self):
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error:
            raise self._error


async def test_a_start_that_is_complete_goes_on():
    server = Starting()
    server.ready.set()
    assert await asyncio.wait_for(_start(server, asyncio.Event()), 5)


async def test_a_stop_cancels_the_start():
    server, stop = Starting(), asyncio.Event()
    starting = asyncio.create_task(_start(server, stop))
    await asyncio.sleep(0)
    stop.set()
    assert not await asyncio.wait_for(starting, 5)
    assert server.cancelled


async def test_a_start_that_fails_raises_its_error():
    server = Starting(InvalidSettings("the port is in use"))
    server.ready.set()
    with pytest.raises(InvalidSettings, match="in use"):
        await asyncio.wait_for(_start(server, asyncio.Event()), 5)
