"""One ExplainStream call, for event loops."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_client._streaming.run import Event, stream_ended
from textcam_client._transport.peer import Peer
from textcam_client.errors import CallError, Cancelled, Unavailable

STREAM_BROKEN = "STREAM_BROKEN"
_WRITE_FAILED = "Internal error from Core"


class AsyncStream:
    """One ExplainStream call, read by a task that lives as long as the call.

    Args:
        start: Begins the call.
        peer: The server that is called.
        woken: Set with each event; setting it from elsewhere ends a wait too.
    """

    def __init__(
        self,
        start: Callable[[AsyncIterator[pb.ExplainStreamRequest]], Any],
        peer: Peer,
        woken: asyncio.Event,
    ) -> None:
        self._requests: asyncio.Queue[pb.ExplainStreamRequest | None] = asyncio.Queue()
        self._events: deque[Event] = deque()
        self._woken = woken
        self._call = start(_until_none(self._requests))
        self._reader = asyncio.create_task(_read(self._call, self._take, peer))

    def send(self, request: pb.ExplainStreamRequest) -> None:
        """Send a request; failures come as events."""
        self._requests.put_nowait(request)

    async def receive(self, timeout: float) -> Event | None:
        """Wait for a response or the error that ended the stream; None: neither came in time."""
        if not self._events:
            await sleep_until(self._woken, timeout)
        return self._events.popleft() if self._events else None

    def cancel(self) -> None:
        """Cancel the call; its end comes as an event."""
        self._call.cancel()

    async def close(self) -> None:
        """Cancel the call and wait for its reader."""
        self._requests.put_nowait(None)
        self._call.cancel()
        self._reader.cancel()
        await asyncio.wait([self._reader])

    def _take(self, event: Event) -> None:
        self._events.append(event)
        self._woken.set()


async def sleep_until(woken: asyncio.Event, timeout: float) -> None:
    """Wait until `woken` is set from now on, at most `timeout` seconds.

    Before Python 3.12, asyncio.wait_for loses a cancellation that comes with the event.
    """
    woken.clear()
    timer = asyncio.get_running_loop().call_later(timeout, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()


async def _until_none(
    requests: asyncio.Queue[pb.ExplainStreamRequest | None],
) -> AsyncIterator[pb.ExplainStreamRequest]:
    while (request := await requests.get()) is not None:
        yield request


async def _read(call: Any, take: Callable[[Event], None], peer: Peer) -> None:
    ends: list[CallError] = []
    call.add_done_callback(lambda done: ends.append(_end_of(done, peer)))
    try:
        async for response in call:
            take(response)
    except grpc.RpcError as rpc_error:
        # The first end is the server's. A write that fails later replaces the status by
        # grpc.aio's own, which has no details.
        take(ends[0] if ends else peer.failure(rpc_error))
    except asyncio.CancelledError:
        take(Cancelled("the stream was cancelled, or its client was closed"))
        raise
    else:
        take(stream_ended())


def _end_of(call: Any, peer: Peer) -> CallError:
    """Read the status of a call that is done, in its callback."""
    code, details = _at_once(call.code()), _at_once(call.details())
    if code is grpc.StatusCode.OK:
        return stream_ended()
    if details == _WRITE_FAILED:
        return Unavailable("the stream broke during a write", reason=STREAM_BROKEN)
    trailing = _at_once(call.trailing_metadata())
    return peer.failure(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits, and return its value."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    return None
