"""Streaming many images through ExplainStream on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar, cast

from textcam_client._convert.requests import Prepare
from textcam_client._streaming.aio_call import AsyncStream, sleep_until
from textcam_client._streaming.feed import Feed
from textcam_client._streaming.run import RunBase, hand_over, paused
from textcam_client._streaming.window import Outcome, Window
from textcam_client.errors import ImageError
from textcam_client.images import ImageInput
from textcam_client.options import Targeted

T_co = TypeVar("T_co", covariant=True)


class AsyncResultStream(AsyncIterator[T_co], Generic[T_co]):
    """Results of AsyncClient.explain_many, for `async for`; see ResultStream.

    If a loop ends early, the event loop cleans up some time later; `async with` or
    `await close()` does it at once. A cancelled wait for a result, as by asyncio.wait_for,
    ends the run.
    """

    def __init__(self, run: AsyncStreamRun, raise_errors: bool) -> None:
        self._run = run
        self._outcomes = run.outcomes()
        self._raise_errors = raise_errors

    async def __anext__(self) -> T_co:
        self._run.state.require_whole()
        outcomes = self._outcomes
        return cast(T_co, hand_over(await anext(outcomes), raise_errors=self._raise_errors))

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
        """Cancel the items in flight. May be called twice.

        A task that waits for the next result gets Cancelled.
        """
        self._run.close()
        # A generator that another task awaits cannot be closed here; that task ends it.
        with contextlib.suppress(RuntimeError):
            await self._outcomes.aclose()


class AsyncStreamRun(RunBase):
    """Run of one `explain_many` on an event loop; see StreamRun."""

    def __init__(
        self,
        images: Iterable[ImageInput | Targeted] | AsyncIterable[ImageInput | Targeted],
        prepare: Prepare,
        window: Window,
        open_stream: Callable[[asyncio.Event], AsyncStream],
    ) -> None:
        super().__init__(prepare, window)
        self._woken = asyncio.Event()
        self._feed = Feed(images, self._woken)
        self._open_stream = open_stream
        self._stream: AsyncStream | None = None

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """Yield each item's outcome; an error of the images' iterable is raised after the last."""
        with self.state:
            try:
                await self._fill()
                while len(self._window) or not self._exhausted:
                    if not self._window.head_done:
                        await self._step()
                        await self._fill()
                        continue
                    self._ready.append(self._window.pop())
                    # The server continues while the caller uses this outcome.
                    await self._fill()
                    with paused(self._window):
                        yield self._ready.pop()
                self._complete()
            finally:
                try:
                    await self._feed.close()
                finally:
                    await self._close_stream()

    def close(self) -> None:
        """Cancel the items in flight; a waiting run ends with Cancelled."""
        self.state.closed.set()
        self._woken.set()
        if self._stream is not None:
            self._stream.cancel()

    async def _fill(self) -> None:
        """Send the images that are available, without waiting for others."""
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
            self._finish_images()
        except Exception as error:  # noqa: BLE001 - raised again after the last outcome
            self._finish_images(error)
        else:
            await self._add(image)

    async def _add(self, image: ImageInput | Targeted) -> None:
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
        """Wait for one event and apply it to the window."""
        await self._send()
        if self._feed.ready and not self._exhausted:
            return
        wait = self._seconds_to_wait()
        if self._stream is None:
            await sleep_until(self._woken, wait)
            event = None
        else:
            event = await self._stream.receive(wait)
        if self._handle(event):
            await self._close_stream()

    async def _close_stream(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.close()
