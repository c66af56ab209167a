"""One asyncio ExplainStream call."""

from __future__ import annotations

import asyncio

import pytest
from textcam_client._streaming.aio_call import AsyncStream
from textcam_client._transport.peer import Peer


async def test_a_cancellation_that_comes_with_an_answer_is_obeyed():
    """asyncio.wait_for swallows it on Python 3.10 and 3.11."""
    calls = []

    class Call:
        """A call whose answer comes when the test says so."""

        def __init__(self):
            self.answered = asyncio.Event()
            calls.append(self)

        def add_done_callback(self, _):
            pass

        def cancel(self):
            pass

        async def __aiter__(self):
            await self.answered.wait()
            # What awaits the answer is awake, and so is to run, when the cancellation comes.
            asyncio.get_running_loop().call_soon(waiting.cancel)
            yield "answer"
            await asyncio.Event().wait()

    stream = AsyncStream(lambda _: Call(), Peer(""), asyncio.Event())
    waiting = asyncio.create_task(stream.receive(30.0))
    await asyncio.sleep(0)
    calls[0].answered.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await stream.receive(0.0) == "answer"
    await stream.close()
