"""Streaming many images through ExplainStream on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
)
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import grpc
from textcam.v1 import explainer_pb2 as pb

from textcam_client._convert.requests import Prepare
from textcam_client._streaming.ending import RunState
from textcam_client._streaming.feed import Feed
from textcam_client._streaming.sync import LONGEST_WAIT, SHORTEST_WAIT, Event, paused, stream_ended
from textcam_client._streaming.window import Outcome, Window
from textcam_client._transport.peer import Peer
from textcam_client.errors import (
    CallError,
    Cancelled,
    ImageError,
    TextCamClientError,
    Unavailable,
)
from textcam_client.images import ImageInput

T_co = TypeVar("T_co", covariant=True)

STREAM_BROKEN = "STREAM_BROKEN"
_WRITE_FAILED = "Internal error from Core"


class AsyncResultStream(AsyncIterator[T_co], Generic[T_co]):
    """As ResultStream, for `async for`.

    A loop that is left early leaves the clean-up to the event loop; `async with`, or
    `await close()`, does it there and then. A cancelled wait for an answer, as by
    asyncio.wait_for, ends the run.
    """

    def __init__(self, run: AsyncStreamRun, raise_errors: bool) -> None:
        self._run = run
        self._outcomes = run.outcomes()
        self._raise_errors = raise_errors

    async def __anext__(self) -> T_co:
        self._run.state.require_whole()
        outcome = await self._outcomes.__anext__()
        if self._raise_errors and isinstance(outcome, TextCamClientError):
            try:
                raise outcome
            finally:
                # Else the error's traceback, which holds this frame, would hold itself.
                del outcome
        return cast(T_co, outcome)

    async def __aenter__(self) -> AsyncResultStream[T_co]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is in flight; more than once is no harm.

        A task that waits for the next answer meanwhile gets Cancelled.
        """
        self._run.close()
        # A generator that another task waits for cannot be closed; it ends by itself.
        with contextlib.suppress(RuntimeError):
            await self._outcomes.aclose()


class AsyncStream:
    """One ExplainStream call, read by a task that lives as long as the call.

    Args:
        start: Begins the call.
        peer: The server that is called.
        woken: Set with each event; ends the wait for one, whoever sets it.
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
        """Send; failures come as events."""
        self._requests.put_nowait(request)

    async def receive(self, timeout: float) -> Event | None:
        """Wait for an answer, or for what ended the stream; None: neither came in time."""
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

    asyncio.wait_for swallows a cancellation that meets what it waits for, before Python 3.12.
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
        async for answer in call:
            take(answer)
    except grpc.RpcError as rpc_error:
        # The first end is the server's. A write that then fails overwrites the status
        # with grpc.aio's own, which says nothing.
        take(ends[0] if ends else peer.failure(rpc_error))
    except asyncio.CancelledError:
        take(Cancelled("the stream was cancelled, or its client closed"))
        raise
    else:
        take(stream_ended())


def _end_of(call: Any, peer: Peer) -> CallError:
    """Read the status of a call that is done, in its callback."""
    code, details = _at_once(call.code()), _at_once(call.details())
    if code is grpc.StatusCode.OK:
        return stream_ended()
    if details == _WRITE_FAILED:
        return Unavailable("the stream broke while it was written to", reason=STREAM_BROKEN)
    trailing = _at_once(call.trailing_metadata())
    return peer.failure(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    return None


class AsyncStreamRun:
    """As stream.StreamRun, on an event loop."""

    def __init__(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        prepare: Prepare,
        window: Window,
        open_stream: Callable[[asyncio.Event], AsyncStream],
    ) -> None:
        self._woken = asyncio.Event()
        self._feed = Feed(images, self._woken)
        self._prepare = prepare
        self._window = window
        self._open_stream = open_stream
        self._stream: AsyncStream | None = None
        self._exhausted = False
        self._failure: Exception | None = None
        self._ready: deque[Outcome] = deque()
        self.state = RunState()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """Yield each item's outcome; what the images' iterable raises comes after the last."""
        with self.state:
            try:
                await self._fill()
                while len(self._window) or not self._exhausted:
                    if not self._window.head_done:
                        await self._step()
                        await self._fill()
                        continue
                    self._ready.append(self._window.pop())
                    # The server works on while the caller looks at this outcome.
                    await self._fill()
                    with paused(self._window):
                        yield self._ready.pop()
                self.state.complete = True
                if self._failure is not None:
                    raise self._failure
            finally:
                try:
                    await self._feed.close()
                finally:
                    await self._close_stream()

    def close(self) -> None:
        """Cancel what is in flight; a run that goes on ends with Cancelled."""
        self.state.closed.set()
        self._woken.set()
        if self._stream is not None:
            self._stream.cancel()

    async def _fill(self) -> None:
        """Send the images that are at hand; no answer waits for one that is not."""
        while self._window.has_room and not self._exhausted:
            with paused(self._window):
                await self._feed.ask()
            if not self._feed.ready:
                return
            await self._pull()
            await self._send()

    async def _pull(self) -> None:
        try:
            image = self._feed.take()
        except StopAsyncIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001 - raised again after the last outcome
            self._exhausted, self._failure = True, error
        else:
            await self._add(image)

    async def _add(self, image: ImageInput) -> None:
        try:
            with paused(self._window):
                request, source = await asyncio.to_thread(self._prepare, image)
        except ImageError as error:
            self._window.add_failed(error)
        else:
            self._window.add(request, source, time.monotonic())

    async def _send(self) -> None:
        now = time.monotonic()
        if self._window.leaves_stream(now):
            await self._close_stream()
        for request in self._window.launch(now):
            if self._stream is None:
                self._stream = self._open_stream(self._woken)
            self._stream.send(request)
        self.state.require_open()

    async def _step(self) -> None:
        """Wait for one thing to happen, and take it in."""
        await self._send()
        if self._feed.ready and not self._exhausted:
            return
        wait = self._window.seconds_to_next(time.monotonic())
        wait = min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
        if self._stream is None:
            await sleep_until(self._woken, wait)
            event = None
        else:
            event = await self._stream.receive(wait)
        self.state.require_open()
        now = time.monotonic()
        if isinstance(event, CallError):
            await self._close_stream()
            self._window.broken(event, now)
        elif event is not None:
            self._window.answer(event, now)
        else:
            self._window.expire(now)

    async def _close_stream(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.close()
