"""OpenTelemetry traces, exported as OTLP over gRPC; needs the extra 'tracing'.

Spans use the times in the request's record, so nothing is measured twice. A thread exports them
from a bounded queue. If the collector is unreachable, spans are lost, but requests are not
affected.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue

from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import Metadata
from textcam_service.version import __version__

_EXPORT_S = 5.0  # timeout of one export
_CLOSE_S = 5.0
# Errors of the server by OpenTelemetry's conventions for gRPC; other codes are the client's.
_SERVER_ERRORS = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}


@dataclass(frozen=True)
class _Open:
    """A recorded span, and time.monotonic()'s zero in Unix nanoseconds."""

    span: Span
    zero: int

    def at(self, instant: float) -> int:
        """Convert an instant on time.monotonic()'s clock to Unix nanoseconds."""
        return self.zero + int(1e9 * instant)


class OtlpTracer:
    """Tracer with a span per request and stage, and a span per batch linked to its requests.

    OpenTelemetry's environment variables configure the export, such as headers and the queue's
    size: OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_RESOURCE_ATTRIBUTES and so on.

    Args:
        endpoint: URL of an OTLP/gRPC receiver; https uses TLS.
        sample_ratio: Part of the requests to trace if the client's trace does not decide.
        method_names: Full names of the traced methods, by short name.
    """

    def __init__(self, endpoint: str, sample_ratio: float, method_names: Mapping[str, str]) -> None:
        self._method_names = method_names
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S)
        self._processor = BatchSpanProcessor(self._exporter)
        ratio, resource = ParentBased(TraceIdRatioBased(sample_ratio)), _resource()
        self._requests = _tracer(self._processor, ratio, resource)
        # A batch is traced if any of its requests is.
        self._batches = _tracer(self._processor, ALWAYS_ON, resource)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """Begin a request's span, in the client's trace if there is one."""
        carrier = {name: value for name, value in metadata if isinstance(value, str)}
        zero = _zero()
        span = self._requests.start_span(
            self._method_names[record.rpc],
            self._propagator.extract(carrier),
            SpanKind.SERVER,
            start_time=zero + int(1e9 * record.began),
        )
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        if span.is_recording():
            record.span = _Open(span, zero)

    def batch(
        self,
        records: Sequence[RequestRecord],
        provider: str,
        began: float,
        seconds: float,
        failed: bool,
    ) -> None:
        """Record a batch's span, and link it with its requests' spans."""
        traced = [record for record in records if record.span is not None]
        if not traced:
            return
        zero = _zero()
        span = self._batches.start_span(
            "batch",
            attributes={
                "textcam.batch.size": len(records),
                "textcam.execution_provider": provider,
                "textcam.model": traced[0].model,
                "textcam.version": traced[0].version,
            },
            links=[Link(record.span.span.get_span_context()) for record in traced],
            start_time=zero + int(1e9 * began),
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(zero + int(1e9 * (began + seconds)))
        for record in traced:
            record.batch_span = span.get_span_context()

    def end(self, record: RequestRecord) -> None:
        """End a request's span and add the spans of its stages."""
        if record.span is None:
            return
        opened: _Open = record.span
        within = set_span_in_context(opened.span)
        for stage, (began, seconds) in record.stages.copy().items():
            linked = stage == "inference" and record.batch_span is not None
            self._requests.start_span(
                stage,
                within,
                links=[Link(record.batch_span)] if linked else None,
                start_time=opened.at(began),
            ).end(opened.at(began + seconds))
        opened.span.set_attributes(_attributes(record, self._method_names[record.rpc]))
        if record.code in _SERVER_ERRORS:
            opened.span.set_status(Status(StatusCode.ERROR, record.reason or None))
        opened.span.end(opened.at(record.began + record.seconds))

    def close(self) -> None:
        """Export the remaining spans for at most five seconds, then drop the rest."""
        flush = threading.Thread(target=self._processor.shutdown, daemon=True)
        flush.start()
        flush.join(_CLOSE_S)
        if flush.is_alive():
            self._exporter.shutdown()


def _tracer(processor: SpanProcessor, sampler: Sampler, resource: Resource) -> Tracer:
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider.get_tracer("textcam_service", __version__)


def _resource() -> Resource:
    """Describe this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    defaults: dict[str, AnyValue] = {
        "service.name": "textcam",
        "service.version": __version__,
        "process.pid": os.getpid(),
    }
    return Resource.create(defaults).merge(OTELResourceDetector().detect())


def _zero() -> int:
    """Return time.monotonic()'s zero in Unix nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def _attributes(record: RequestRecord, method_name: str) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "rpc.system.name": "grpc",
        "rpc.method": method_name,
        "rpc.response.status_code": record.code,
        "error.type": record.reason,
        "enduser.id": record.caller,
        "textcam.request_id": record.request_id,
        "textcam.model": record.model,
        "textcam.version": record.version,
        "textcam.cam_method": record.cam_method,
        "textcam.lane": record.lane,
        "textcam.request_bytes": record.request_bytes,
        "textcam.image_width": record.image_width,
        "textcam.image_height": record.image_height,
        "textcam.batch.size": record.batch_size,
    }
    return {name: value for name, value in attributes.items() if value not in ("", 0)}
