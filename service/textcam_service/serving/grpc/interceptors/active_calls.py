"""Interceptor that tracks open calls, so that a stop can finish them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from grpc_status import rpc_status

from textcam_service.errors import ShuttingDown
from textcam_service.serving.status import status_of


class ActiveCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """Interceptor that tracks unary calls and bidirectional streams until they end.

    A stop waits for the responses of unary calls, and ends streams that their clients keep open.
    """

    def __init__(self) -> None:
        self._unary: set[asyncio.Future[None]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def wait_unary(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until all unary calls open now have ended.

        gRPC has then written the last bytes of their responses, or their clients are gone.
        """
        if self._unary:
            await asyncio.wait(tuple(self._unary), timeout=max(0.0, timeout))

    async def end_streams(self, patience_s: float) -> None:
        """Wait `patience_s` seconds for streams to end, then end the rest with UNAVAILABLE."""
        if self._streams:
            await asyncio.wait(tuple(self._streams), timeout=patience_s)
        self._ending = True
        for task in self._streams:
            task.cancel()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return a handler that tracks the call until it ends."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def unary(request: Any, context: Any) -> Any:
            over = asyncio.get_running_loop().create_future()
            self._unary.add(over)
            over.add_done_callback(self._unary.discard)
            context.add_done_callback(lambda _: over.cancel())  # not awaited on its own
            return await handler.unary_unary(request, context)

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - grpc.aio runs each call in a task
            self._streams.add(task)
            try:
                async with aclosing(handler.stream_stream(requests, context)) as responses:
                    async for response in responses:
                        yield response
            except asyncio.CancelledError:
                if not self._ending:
                    raise  # the client left
                error = ShuttingDown("the server is shutting down; retry on another replica")
                await context.abort_with_status(rpc_status.to_status(status_of(error)))
            finally:
                self._streams.discard(task)

        tracked = {"stream_stream": stream, "unary_unary": unary}
        return handler._replace(
            **{kind: method for kind, method in tracked.items() if getattr(handler, kind)}
        )
