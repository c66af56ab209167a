"""Admission of requests: limits on the work at a time, and the wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from textcam_service.errors import ServerBusy, ShuttingDown
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

_BUSY_RETRY_S = 0.25
_DRAIN_RETRY_S = 1.0


class AdmissionControl:
    """Counts requests in work, their bytes, and streams' undelivered responses.

    grpc.aio's own maximum_concurrent_rpcs is known to miscount. Lives on one event loop.

    Args:
        settings: Limits.
        metrics: Gauges and counters.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._max_concurrent = settings.max_concurrent
        self._max_bytes = settings.max_bytes_in_work
        self._metrics = metrics
        self._in_flight = 0
        self._bytes_in_work = 0
        self._undelivered = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @contextmanager
    def admit(self, size: int, concurrency: int = 1) -> Iterator[None]:
        """Hold room for work while it lasts; admitted work is finished, also during a drain.

        Args:
            size: Bytes of the request.
            concurrency: Most images that are in work at a time.

        Raises:
            ShuttingDown: stop() was called.
            ServerBusy: Too many requests, or too large ones, are in work.
        """
        if self._draining:
            raise ShuttingDown(
                "the server shuts down; another replica will answer", retry_after_s=_DRAIN_RETRY_S
            )
        full = self._in_flight + concurrency > self._max_concurrent
        if full or self._bytes_in_work + size > self._max_bytes:
            error = ServerBusy(
                f"the server is busy: {self._in_flight} requests are in progress, and they and "
                f"responses that streams' clients have not read yet take {self._bytes_in_work:,} "
                "bytes; try again shortly",
                retry_after_s=_BUSY_RETRY_S,
            )
            self._metrics.on_rejected(error.reason)
            raise error
        self._add_in_work(concurrency, size)
        try:
            yield
        finally:
            self._add_in_work(-concurrency, -size)

    def add_undelivered(self, items: int, size: int) -> None:
        """Count streams' items that the client has not read yet, and their responses' bytes.

        Args:
            items: Change of their number.
            size: Change of their bytes.
        """
        self._undelivered += items
        self._bytes_in_work += size
        self._update_idle()

    def stop(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    async def drained(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until all admitted work is done and delivered."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)

    def _add_in_work(self, requests: int, size: int) -> None:
        self._in_flight += requests
        self._bytes_in_work += size
        self._metrics.in_flight.set(self._in_flight)
        self._update_idle()

    def _update_idle(self) -> None:
        if self._in_flight or self._undelivered:
            self._idle.clear()
        else:
            self._idle.set()
