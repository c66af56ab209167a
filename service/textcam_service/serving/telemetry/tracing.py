"""The interface of tracers, and the tracer that exports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

from textcam_service.serving.telemetry.record import RequestRecord

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
"""A call's metadata: pairs of key and value."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Tracer(Protocol):
    """Tracer of requests and batches."""

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """Begin a request's trace and set the record's trace id."""

    def batch(
        self,
        records: Sequence[RequestRecord],
        provider: str,
        began: float,
        seconds: float,
        failed: bool,
    ) -> None:
        """Record a batch that ran, before any of its requests has a response.

        Args:
            records: Records of the requests in it.
            provider: Execution provider that ran it.
            began: When it began, on time.monotonic()'s clock.
            seconds: Its duration.
            failed: Whether any of its images failed.
        """

    def end(self, record: RequestRecord) -> None:
        """End a request's trace."""

    def close(self) -> None:
        """Export the remaining traces within a few seconds; blocks."""


class NoopTracer:
    """Tracer that exports nothing; it only notes the client's trace id for the log."""

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """Note the client's trace id (W3C Trace Context, `traceparent`)."""
        for name, value in metadata:
            if name == "traceparent" and isinstance(value, str):
                found = _TRACEPARENT.match(value)
                record.trace_id = found[1] if found else ""

    def batch(
        self,
        records: Sequence[RequestRecord],
        provider: str,
        began: float,
        seconds: float,
        failed: bool,
    ) -> None:
        """Do nothing."""

    def end(self, record: RequestRecord) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
