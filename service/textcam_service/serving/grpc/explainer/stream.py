"""One ExplainStream: items in, responses out in order of completion, and the bounds between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from textcam.v1 import explainer_pb2 as pb

from textcam_service.errors import InvalidArgument
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.engine.jobs import MAX_REQUEST_ID, check_request_id
from textcam_service.serving.grpc.explainer.calls import ExplainCalls, envelope
from textcam_service.serving.status import status_of
from textcam_service.serving.telemetry.tracing import Metadata
from textcam_service.settings import ServerSettings

_PARTS = 8  # number of streams that may hold all bytes if their clients do not read
_FIRST = 4


@dataclass(frozen=True)
class _Undelivered:
    """A response that waits to be read by the client.

    Attributes:
        message: The message as sent.
        size: Its bytes.
        frees: The id that other items may have from then on; empty: none.
    """

    message: pb.ExplainStreamResponse
    size: int
    frees: str


class Stream:
    """Items in work, responses that the client has not read yet, and the ids of both.

    Args:
        dataplane: Counts undelivered responses, and rejects items.
        calls: Explains items.
        settings: Bounds of items that are in work or undelivered, and of their bytes.
        deadline: Deadline of the call, on time.monotonic()'s clock; None: none.
        metadata: Metadata of the call.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        calls: ExplainCalls,
        settings: ServerSettings,
        deadline: float | None,
        metadata: Metadata,
    ) -> None:
        self._dataplane = dataplane
        self._calls = calls
        self._deadline = deadline
        self._metadata = metadata
        # Freed once a response is read: a slow reader slows the work. No item is refused for lack
        # of room in the queue because of the stream's own items.
        self._slots = asyncio.Semaphore(min(settings.stream_concurrency, settings.max_queue))
        # The next response may be as large as the largest so far; the first, a part of the limit.
        self._part = settings.max_bytes_in_work // _PARTS
        self._largest, self._seen = settings.max_message_bytes // _FIRST, 0
        self._moved = asyncio.Event()
        self._done: asyncio.Queue[_Undelivered | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids: set[str] = set()
        self._items = self._bytes = 0

    async def responses(
        self, items: AsyncIterator[pb.ExplainStreamRequest]
    ) -> AsyncGenerator[pb.ExplainStreamResponse, None]:
        """Explain items as they come; ends with the last one's response."""
        reader = asyncio.create_task(self._read(items))
        try:
            while (response := await self._done.get()) is not None:
                self._ids.discard(response.frees)  # before its reader can use the id again
                yield response.message
                self._add_undelivered(-1, -response.size)
                self._slots.release()
            await reader
        finally:
            for task in (reader, *self._tasks):
                task.cancel()
            self._add_undelivered(-self._items, -self._bytes)

    async def _read(self, items: AsyncIterator[pb.ExplainStreamRequest]) -> None:
        try:
            async for item in items:
                await self._slots.acquire()
                await self._wait_for_room()
                self._add_undelivered(1)
                task = asyncio.create_task(self._explain(item.request))
                self._tasks.add(task)
                task.add_done_callback(self._on_explained)
            await asyncio.gather(*self._tasks)
        finally:
            self._done.put_nowait(None)

    async def _wait_for_room(self) -> None:
        """Wait until another response would fit the stream's part, or the stream holds none."""
        while self._items and self._bytes + (len(self._tasks) + 1) * self._largest > self._part:
            self._moved.clear()
            await self._moved.wait()

    def _on_explained(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._moved.set()

    async def _explain(self, request: pb.ExplainRequest) -> None:
        message = pb.ExplainStreamResponse(request_id=request.request_id[:MAX_REQUEST_ID])
        asked = envelope("ExplainStream", request, self._deadline, self._metadata)
        own = ""
        try:
            self._check_id(request.request_id)
        except InvalidArgument as error:
            message.error.CopyFrom(status_of(self._dataplane.reject(asked, error)))
        else:
            own = request.request_id
            self._ids.add(own)
            try:
                message.response.CopyFrom(await self._calls.explain(request, asked, Lane.AUDIT))
            except Exception as error:  # noqa: BLE001 - recorded; the client gets its status
                message.error.CopyFrom(status_of(error))
        size = message.ByteSize()
        self._largest = self._seen = max(self._seen, size)
        self._add_undelivered(0, size)
        self._done.put_nowait(_Undelivered(message, size, own))

    def _check_id(self, request_id: str) -> None:
        """Refuse an id that is missing, too long, or that of another item in work."""
        check_request_id(request_id, "request.request_id")
        if request_id and request_id not in self._ids:
            return
        fault = "belongs to an item that has no answer yet" if request_id else "is missing"
        raise InvalidArgument(
            f"the request id '{request_id}' {fault}; answers are matched by it",
            field="request.request_id",
        )

    def _add_undelivered(self, items: int, size: int = 0) -> None:
        self._items += items
        self._bytes += size
        self._dataplane.admission.add_undelivered(items, size)
        self._moved.set()
