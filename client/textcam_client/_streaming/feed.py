"""Images of a run on an event loop, awaited at the same time as its results."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from textcam_client.images import ImageInput
from textcam_client.options import Targeted


class Feed:
    """Source that draws each image on request, all in one task.

    One task, since a generator may keep things that belong to its task from one image to the next:
    a timeout, a task group.

    Args:
        images: The caller's iterable.
        woken: Set when an image has arrived or the images have ended.
    """

    def __init__(
        self,
        images: Iterable[ImageInput | Targeted] | AsyncIterable[ImageInput | Targeted],
        woken: asyncio.Event,
    ) -> None:
        self._images = aiter(images) if isinstance(images, AsyncIterable) else _lifted(images)
        self._woken = woken
        self._asked = asyncio.Event()
        self._arrived: deque[ImageInput | Targeted] = deque()
        self._end: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """True if `take` returns or raises at once."""
        return bool(self._arrived) or self._end is not None

    async def ask(self) -> None:
        """Request the next image, unless one is ready; an available one is ready afterwards."""
        if self.ready or self._asked.is_set():
            return
        self._asked.set()
        if self._task is None:
            self._task = asyncio.create_task(self._draw())
        await asyncio.sleep(0)

    def take(self) -> ImageInput | Targeted:
        """Return the image that arrived; raises StopAsyncIteration, or the iterable's own error."""
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
                del image  # the run owns it now
                self._woken.set()
                await self._asked.wait()
            self._end = StopAsyncIteration()
        except BaseException as error:  # noqa: BLE001 - raised in the run, by `take`
            self._end = error
        self._woken.set()


async def _lifted(images: Iterable[ImageInput | Targeted]) -> AsyncIterator[ImageInput | Targeted]:
    for image in images:
        yield image
