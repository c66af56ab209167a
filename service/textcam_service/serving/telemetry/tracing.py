"""Traces: what the server tells a tracer, and the one that is there while none is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

from textcam_service.errors import MissingExtra
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.settings import ServerSettings

# A call's metadata, by pairs of name and value.
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Tracer(Protocol):
    """Told of each request as it comes and goes, and of each batch between."""

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """A request came; its trace's id goes into the record."""

    def batch(
        self,
        records: Sequence[RequestRecord],
        provider: str,
        began: float,
        seconds: float,
        failed: bool,
    ) -> None:
        """A batch ran; none of its requests is answered yet.

        Args:
            records: Of the requests in it.
            provider: The execution provider that ran it.
            began: On time.monotonic()'s clock.
            seconds: How long it ran.
            failed: Whether any of its images did.
        """

    def end(self, record: RequestRecord) -> None:
        """A request was answered."""

    def close(self) -> None:
        """Export what is left, within a few seconds; blocks."""


class NoopTracer:
    """No traces: a caller's trace id goes into the log, no more."""

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """Note the caller's trace id (W3C Trace Context, `traceparent`)."""
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
        """Pass over."""

    def end(self, record: RequestRecord) -> None:
        """Pass over."""

    def close(self) -> None:
        """Nothing is left."""


def make_tracer(settings: ServerSettings) -> Tracer:
    """The tracer that the settings ask for.

    Raises:
        MissingExtra: An endpoint is set, but OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return NoopTracer()
    try:
        from textcam_service.serving.telemetry.otlp import OtlpTracer  # noqa: PLC0415 - extra 'tracing'
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"otlp_endpoint needs the extra 'tracing' ({error.name} not installed): "
            "pip install 'textcam-service[tracing]', or leave the setting empty"
        ) from error
    return OtlpTracer(settings.otlp_endpoint, settings.trace_sample_ratio)
