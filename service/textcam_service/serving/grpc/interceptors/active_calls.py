"""Calls that are open: a stop waits for answers on their way, and ends streams that nobody ends."""

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
    """Knows the calls with one answer, and those that stream both ways."""

    def __init__(self) -> None:
        self._answers: set[asyncio.Future[None]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def answered(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for the single answers of calls that are open now.

        gRPC has then written the last of their bytes, or their callers are gone.
        """
        if self._answers:
            await asyncio.wait(tuple(self._answers), timeout=max(0.0, timeout))

    async def end_streams(self, patience_s: float) -> None:
        """End those that are open yet after `patience_s` seconds, with UNAVAILABLE."""
        if self._streams:
            await asyncio.wait(tuple(self._streams), timeout=patience_s)
        self._ending = True
        for task in self._streams:
            task.cancel()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Remember a call until it ends."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def one(request: Any, context: Any) -> Any:
            over = asyncio.get_running_loop().create_future()
            self._answers.add(over)
            over.add_done_callback(self._answers.discard)
            context.add_done_callback(lambda _: over.cancel())  # nobody awaits it by itself
            return await handler.unary_unary(request, context)

        async def many(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - grpc.aio runs each call in a task
            self._streams.add(task)
            try:
                async with aclosing(handler.stream_stream(requests, context)) as answers:
                    async for answer in answers:
                        yield answer
            except asyncio.CancelledError:
                if not self._ending:
                    raise  # its caller left
                error = ShuttingDown("the server shuts down; another replica will answer")
                await context.abort_with_status(rpc_status.to_status(status_of(error)))
            finally:
                self._streams.discard(task)

        own = {"stream_stream": many, "unary_unary": one}
        return handler._replace(
            **{kind: known for kind, known in own.items() if getattr(handler, kind)}
        )
