"""The images of a run on an event loop, which are waited for beside its answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from textcam_client.images import ImageInput


class Feed:
    """Draws each image when it is asked for, all in one task.

    A generator may hold what belongs to its task from one image to the next: a timeout, a group.

    Args:
        images: What is drawn from.
        woken: Set when an image has come, or there are no more.
    """

    def __init__(
        self, images: Iterable[ImageInput] | AsyncIterable[ImageInput], woken: asyncio.Event
    ) -> None:
        self._images = aiter(images) if isinstance(images, AsyncIterable) else _lifted(images)
        self._woken = woken
        self._asked = asyncio.Event()
        self._arrived: deque[ImageInput] = deque()
        self._end: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether `take` has something to say."""
        return bool(self._arrived) or self._end is not None

    async def ask(self) -> None:
        """Let the next image be drawn, if none is; one that is at hand is ready then."""
        if self.ready or self._asked.is_set():
            return
        self._asked.set()
        if self._task is None:
            self._task = asyncio.create_task(self._draw())
        await asyncio.sleep(0)

    def take(self) -> ImageInput:
        """The image that has come; raises StopAsyncIteration, or what the iterable raised."""
        if self._arrived:
            return self._arrived.popleft()
        raise self._end or LookupError("no image has come")

    async def close(self) -> None:
        """Stop drawing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _draw(self) -> None:
        try:
            async for image in self._images:
                self._asked.clear()
                self._arrived.append(image)
                del image  # it is the run's from here on
                self._woken.set()
                await self._asked.wait()
            self._end = StopAsyncIteration()
        except BaseException as error:  # noqa: BLE001 - raised in the run, by `take`
            self._end = error
        self._woken.set()


async def _lifted(images: Iterable[ImageInput]) -> AsyncIterator[ImageInput]:
    for image in images:
        yield image
