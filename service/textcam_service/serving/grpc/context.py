"""Deadline and failure of a gRPC call."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from textcam_service.serving.status import status_of


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """Return a call's deadline on time.monotonic()'s clock; None: none."""
    remaining = context.time_remaining()
    if remaining == 0:
        # gRPC subtracts two readings of the wall clock, which may have been set in between.
        remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], failure: Exception | Status
) -> NoReturn:
    """End a call with the status of an error, and its details."""
    status = status_of(failure) if isinstance(failure, Exception) else failure
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status raises")
