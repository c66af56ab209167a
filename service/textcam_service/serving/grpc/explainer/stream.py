"""One ExplainStream: items in, answers out in order of completion, and what it holds until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from google.rpc.status_pb2 import Status
from textcam.v1 import explainer_pb2 as pb

from textcam_service.errors import InvalidArgument
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.explainer.requests import MAX_REQUEST_ID, check_request_id
from textcam_service.serving.telemetry.tracing import Metadata
from textcam_service.settings import ServerSettings

_PARTS = 8  # as many streams that nobody reads may hold all the bytes there are, one may not
_FIRST = 4


@dataclass(frozen=True)
class _Answer:
    """An answer that waits to be taken.

    Attributes:
        message: As it is sent.
        size: Its bytes.
        frees: The id that others may have from then on; empty: none.
    """

    message: pb.ExplainStreamResponse
    size: int
    frees: str


class Stream:
    """What a stream holds: items in work, answers that nobody took yet, and the ids of both.

    Args:
        desk: Where items are explained; told of what is held.
        settings: Bound the items that are in work or answered and not taken, and their bytes.
        deadline: The call's, on time.monotonic()'s clock; None: none.
        metadata: The call's.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        settings: ServerSettings,
        deadline: float | None,
        metadata: Metadata,
    ) -> None:
        self._dataplane = dataplane
        self._deadline = deadline
        self._metadata = metadata
        # Freed once an answer was taken: a slow reader slows the work. No item is refused for want
        # of room in the queue because of the stream's own.
        self._slots = asyncio.Semaphore(min(settings.stream_concurrency, settings.max_queue))
        # The next answer may be as large as the largest so far; the first, a part of what can be.
        self._part = settings.max_bytes_in_work // _PARTS
        self._largest, self._seen = settings.max_message_bytes // _FIRST, 0
        self._moved = asyncio.Event()
        self._answers: asyncio.Queue[_Answer | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids: set[str] = set()
        self._items = self._bytes = 0

    async def answers(
        self, items: AsyncIterator[pb.ExplainStreamRequest]
    ) -> AsyncGenerator[pb.ExplainStreamResponse, None]:
        """Answer items as they come; ends with the last one's answer."""
        reader = asyncio.create_task(self._read(items))
        try:
            while (answer := await self._answers.get()) is not None:
                self._ids.discard(answer.frees)  # before whoever reads it can use the id again
                yield answer.message
                self._hold(-1, -answer.size)
                self._slots.release()
            await reader
        finally:
            for task in (reader, *self._tasks):
                task.cancel()
            self._hold(-self._items, -self._bytes)

    async def _read(self, items: AsyncIterator[pb.ExplainStreamRequest]) -> None:
        try:
            async for item in items:
                await self._slots.acquire()
                await self._room()
                self._hold(1)
                task = asyncio.create_task(self._answer(item.request))
                self._tasks.add(task)
                task.add_done_callback(self._on_answered)
            await asyncio.gather(*self._tasks)
        finally:
            self._answers.put_nowait(None)

    async def _room(self) -> None:
        """Wait until another answer would be within the stream's part, or it holds none."""
        while self._items and self._bytes + (len(self._tasks) + 1) * self._largest > self._part:
            self._moved.clear()
            await self._moved.wait()

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._moved.set()

    async def _answer(self, request: pb.ExplainRequest) -> None:
        own = ""
        result: pb.ExplainResponse | Status
        try:
            self._require_own_id(request.request_id)
        except InvalidArgument as error:
            result = self._dataplane.refuse("ExplainStream", request, self._metadata, error)
        else:
            own = request.request_id
            self._ids.add(own)
            result = await self._dataplane.answer(
                "ExplainStream", request, self._deadline, Lane.AUDIT, self._metadata
            )
        message = pb.ExplainStreamResponse(request_id=request.request_id[:MAX_REQUEST_ID])
        if isinstance(result, Status):
            message.error.CopyFrom(result)
        else:
            message.response.CopyFrom(result)
        size = message.ByteSize()
        self._largest = self._seen = max(self._seen, size)
        self._hold(0, size)
        self._answers.put_nowait(_Answer(message, size, own))

    def _require_own_id(self, request_id: str) -> None:
        check_request_id(request_id, "request.request_id")
        if request_id and request_id not in self._ids:
            return
        fault = "is that of an item that was not answered yet" if request_id else "is missing"
        raise InvalidArgument(
            f"the request id '{request_id}' {fault}; answers are matched by it",
            field="request.request_id",
        )

    def _hold(self, items: int, size: int = 0) -> None:
        self._items += items
        self._bytes += size
        self._dataplane.hold(items, size)
        self._moved.set()
