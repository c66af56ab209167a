"""Callers through the SDK, who enter what they get into a ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fault_world import Ledger
from textcam_client import AsyncClient, Client
from textcam_client.errors import CallError

# All ten classes, so that an answer shows every logit of its image.
ALL_CLASSES = 10
STREAMED = 40
LEFT = "cancelled by its caller"


async def ask(client: AsyncClient, ledger: Ledger, **options) -> None:
    """One request, to its answer or its error."""
    request_id, sample = ledger.send()
    try:
        answer = await client.explain(
            sample.encoded, request_id=request_id, prediction_count=ALL_CLASSES, **options
        )
    except CallError as error:
        ledger.failed(request_id, kind_of(error))
    except asyncio.CancelledError:
        ledger.failed(request_id, LEFT)
        raise
    else:
        ledger.answered(request_id, answer)


async def load(
    client: AsyncClient,
    ledger: Ledger,
    go_on: Callable[[], bool],
    callers: int = 16,
    pause: float = 0.0,
    **options,
) -> None:
    """Many callers, each asking again and again while `go_on` says so, with a pause between."""

    async def caller() -> None:
        while go_on():
            await ask(client, ledger, **options)
            await asyncio.sleep(pause)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def ask_many(client: AsyncClient, ledger: Ledger, count: int, **options) -> None:
    """One streamed run of the SDK; its answers come in the order of its images."""
    sent = [ledger.send() for _ in range(count)]
    answers = client.explain_many(
        [sample.encoded for _, sample in sent],
        on_error="return",
        prediction_count=ALL_CLASSES,
        **options,
    )
    waiting = [request_id for request_id, _ in reversed(sent)]
    try:
        async for answer in answers:
            request_id = waiting.pop()
            if isinstance(answer, Exception):
                ledger.failed(request_id, kind_of(answer))
            else:
                # The SDK makes a stream's ids itself, and matches answers by them.
                ledger.answered(request_id, answer, echoed=request_id)
    except asyncio.CancelledError:
        for request_id in waiting:
            ledger.failed(request_id, LEFT)
        raise


def ask_from_a_thread(
    address: str, ledger: Ledger, go_on: Callable[[], bool], pause: float = 0.0
) -> None:
    """The SDK's client for threads, asking again and again."""
    with Client(address) as client:
        while go_on():
            request_id, sample = ledger.send()
            try:
                answer = client.explain(
                    sample.encoded, request_id=request_id, prediction_count=ALL_CLASSES
                )
                ledger.answered(request_id, answer)
            except CallError as error:
                ledger.failed(request_id, kind_of(error))
            time.sleep(pause)


@asynccontextmanager
async def under_load(
    address: str, unary: Ledger, streamed: Ledger, threaded: Ledger, pause: float = 0.0
) -> AsyncIterator[None]:
    """Callers of each kind that the SDK has, for the length of a block and to their last answer.

    Args:
        address: Whom they ask.
        unary: The books of six callers.
        streamed: Of one who streams.
        threaded: Of one with the client for threads.
        pause: Between a caller's answer and the next request, seconds.
    """
    going = True

    def go_on() -> bool:
        return going

    async def stream_again_and_again() -> None:
        while going:
            await ask_many(client, streamed, STREAMED)
            await asyncio.sleep(pause)

    async with AsyncClient(address) as client:
        callers = [
            asyncio.create_task(load(client, unary, go_on, callers=6, pause=pause)),
            asyncio.create_task(stream_again_and_again()),
            asyncio.create_task(
                asyncio.to_thread(ask_from_a_thread, address, threaded, go_on, pause)
            ),
        ]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*callers)


def kind_of(error: Exception) -> str:
    """A failure's name for the books: the service's own reason, else gRPC's code."""
    if isinstance(error, CallError):
        return error.reason or f"{error.code.name} {error}"[:80]
    return type(error).__name__


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Go on for so long."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
