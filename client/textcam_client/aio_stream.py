"""Streaming many images through ExplainStream on an event loop."""

from __future__ import annotations

import asyncio
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

from textcam_client.errors import (
    CallError,
    Cancelled,
    ImageError,
    TextCamClientError,
    Unavailable,
)
from textcam_client.images import ImageInput
from textcam_client.peer import Peer
from textcam_client.requests import Prepare
from textcam_client.stream import LONGEST_WAIT, SHORTEST_WAIT, Event, stream_ended
from textcam_client.window import Outcome, Window

T_co = TypeVar("T_co", covariant=True)

STREAM_BROKEN = "STREAM_BROKEN"
_WRITE_FAILED = "Internal error from Core"


class AsyncExplanations(AsyncIterator[T_co], Generic[T_co]):
    """As Explanations, for `async for`.

    A loop that is left early leaves the clean-up to the event loop; `async with`, or
    `await close()`, does it there and then.
    """

    def __init__(self, outcomes: AsyncGenerator[Outcome, None], raise_errors: bool) -> None:
        self._outcomes = outcomes
        self._raise_errors = raise_errors

    async def __anext__(self) -> T_co:
        outcome = await self._outcomes.__anext__()
        if self._raise_errors and isinstance(outcome, TextCamClientError):
            try:
                raise outcome
            finally:
                # Else the error's traceback, which holds this frame, would hold itself.
                del outcome
        return cast(T_co, outcome)

    async def __aenter__(self) -> AsyncExplanations[T_co]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is in flight; more than once is no harm."""
        await self._outcomes.aclose()


class AsyncStream:
    """One ExplainStream call, read by a task that lives as long as the call."""

    def __init__(
        self, start: Callable[[AsyncIterator[pb.ExplainStreamRequest]], Any], peer: Peer
    ) -> None:
        self._requests: asyncio.Queue[pb.ExplainStreamRequest | None] = asyncio.Queue()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._call = start(_until_none(self._requests))
        self._reader = asyncio.create_task(_read(self._call, self._events, peer))

    def send(self, request: pb.ExplainStreamRequest) -> None:
        """Send; failures come as events."""
        self._requests.put_nowait(request)

    async def receive(self, timeout: float) -> Event | None:
        """Wait for an answer, or for what ended the stream; None: neither came in time."""
        try:
            return await asyncio.wait_for(self._events.get(), timeout)
        except asyncio.TimeoutError:
            return None

    async def close(self) -> None:
        """Cancel the call and wait for its reader."""
        self._requests.put_nowait(None)
        self._call.cancel()
        self._reader.cancel()
        await asyncio.wait([self._reader])


async def _until_none(
    requests: asyncio.Queue[pb.ExplainStreamRequest | None],
) -> AsyncIterator[pb.ExplainStreamRequest]:
    while (request := await requests.get()) is not None:
        yield request


async def _read(call: Any, events: asyncio.Queue[Event], peer: Peer) -> None:
    ends: list[CallError] = []
    call.add_done_callback(lambda done: ends.append(_end_of(done, peer)))
    try:
        async for answer in call:
            events.put_nowait(answer)
    except grpc.RpcError as rpc_error:
        # The first end is the server's. A write that then fails overwrites the status
        # with grpc.aio's own, which says nothing.
        events.put_nowait(ends[0] if ends else peer.failure(rpc_error))
    except asyncio.CancelledError:
        events.put_nowait(Cancelled("the stream was cancelled, or its client closed"))
        raise
    else:
        events.put_nowait(stream_ended())


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


class AsyncRun:
    """As stream.Run, on an event loop."""

    def __init__(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        prepare: Prepare,
        window: Window,
        open_stream: Callable[[], AsyncStream],
    ) -> None:
        self._images = aiter(images) if isinstance(images, AsyncIterable) else _lifted(images)
        self._prepare = prepare
        self._window = window
        self._open_stream = open_stream
        self._stream: AsyncStream | None = None
        self._exhausted = False
        self._failure: Exception | None = None
        self._ready: deque[Outcome] = deque()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """Yield each item's outcome; what the images' iterable raises comes after the last."""
        try:
            await self._fill()
            while len(self._window):
                while not self._window.head_done:
                    await self._turn()
                self._ready.append(self._window.pop())
                # The server works on while the caller looks at this outcome.
                await self._fill()
                yield self._ready.pop()
            if self._failure is not None:
                raise self._failure
        finally:
            await self._close_stream()

    async def _fill(self) -> None:
        while self._window.has_room and not self._exhausted:
            await self._pull()
            await self._send()

    async def _pull(self) -> None:
        try:
            image = await anext(self._images)
        except StopAsyncIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001 - raised again after the last outcome
            self._exhausted, self._failure = True, error
        else:
            await self._add(image)

    async def _add(self, image: ImageInput) -> None:
        try:
            request, source = await asyncio.to_thread(self._prepare, image)
        except ImageError as error:
            self._window.add_failed(error)
        else:
            self._window.add(request, source, time.monotonic())

    async def _send(self) -> None:
        if self._window.leaves_stream():
            await self._close_stream()
        for request in self._window.launch(time.monotonic()):
            if self._stream is None:
                self._stream = self._open_stream()
            self._stream.send(request)

    async def _turn(self) -> None:
        """Wait for one thing to happen, and take it in."""
        await self._send()
        wait = self._window.seconds_to_next(time.monotonic())
        wait = min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
        if self._stream is None:
            await asyncio.sleep(wait)
            event = None
        else:
            event = await self._stream.receive(wait)
        now = time.monotonic()
        if isinstance(event, CallError):
            await self._close_stream()
            self._window.broken(event, now)
        elif event is not None:
            self._window.answer(event, now)
        elif self._window.expire(now):
            await self._close_stream()
            self._window.recall(now)

    async def _close_stream(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.close()


async def _lifted(images: Iterable[ImageInput]) -> AsyncIterator[ImageInput]:
    for image in images:
        yield image
