"""Callers through the SDK, who enter what they get into a ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fault_world import Ledger
from textcam_client import AsyncClient
from textcam_client.errors import CallError

# All ten classes, so that an answer shows every logit of its image.
ALL_CLASSES = 10
LEFT = "cancelled by its caller"


async def ask(client: AsyncClient, ledger: Ledger, **options) -> None:
    """One request, to its answer or its error."""
    request_id, sample = ledger.send()
    try:
        answer = await client.explain(
            sample.encoded, request_id=request_id, predictions=ALL_CLASSES, **options
        )
    except CallError as error:
        ledger.failed(request_id, kind_of(error))
    except asyncio.CancelledError:
        ledger.failed(request_id, LEFT)
        raise
    else:
        ledger.answered(request_id, answer)


async def load(
    client: AsyncClient, ledger: Ledger, go_on: Callable[[], bool], callers: int = 16, **options
) -> None:
    """Many callers, each asking again and again while `go_on` says so."""

    async def caller() -> None:
        while go_on():
            await ask(client, ledger, **options)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def ask_many(client: AsyncClient, ledger: Ledger, count: int, **options) -> None:
    """One streamed run of the SDK; its answers come in the order of its images."""
    sent = [ledger.send() for _ in range(count)]
    answers = client.explain_many(
        [sample.encoded for _, sample in sent],
        on_error="return",
        predictions=ALL_CLASSES,
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


def kind_of(error: Exception) -> str:
    """A failure's name for the books: the service's own reason, else gRPC's code."""
    if isinstance(error, CallError):
        return error.reason or f"{error.code.name} {error}"[:80]
    return type(error).__name__


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Go on for so long."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
