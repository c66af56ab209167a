"""Traces by OpenTelemetry, exported as OTLP over gRPC; needs the extra 'tracing'.

Spans take the times that the request's record holds: nothing is measured twice. They go through a
bounded queue and a thread of their own: where the collector is away, spans are lost, no request.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

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
from textcam.oip import open_inference_pb2
from textcam.v1 import explainer_pb2

from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import Metadata
from textcam_service.version import __version__

_EXPORT_S = 5.0  # an export that takes longer is given up
_CLOSE_S = 5.0
_NAMES = {
    method.name: f"{service.full_name}/{method.name}"
    for service in chain(
        explainer_pb2.DESCRIPTOR.services_by_name.values(),
        open_inference_pb2.DESCRIPTOR.services_by_name.values(),
    )
    for method in service.methods
}
# The server's faults, by OpenTelemetry's conventions for gRPC servers; others are the caller's.
_FAULTS = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}


@dataclass(frozen=True)
class _Open:
    """A span that is recorded, and the instant zero of time.monotonic()'s clock, Unix ns."""

    span: Span
    zero: int

    def at(self, instant: float) -> int:
        """An instant on time.monotonic()'s clock as Unix nanoseconds."""
        return self.zero + int(1e9 * instant)


class OtlpTracer:
    """A span per request with one per stage, and a span per batch, linked to its requests'.

    Attributes of the export, such as headers and the queue's size, are OpenTelemetry's own:
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_RESOURCE_ATTRIBUTES and so on.

    Args:
        endpoint: URL of an OTLP/gRPC receiver; with https, by TLS.
        sample_ratio: Part of the requests to trace where the caller's trace does not say.
    """

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S)
        self._processor = BatchSpanProcessor(self._exporter)
        ratio, resource = ParentBased(TraceIdRatioBased(sample_ratio)), _resource()
        self._requests = _tracer(self._processor, ratio, resource)
        # A batch is traced where any of its requests is.
        self._batches = _tracer(self._processor, ALWAYS_ON, resource)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: RequestRecord, metadata: Metadata) -> None:
        """Begin a request's span, in the caller's trace if there is one."""
        carrier = {name: value for name, value in metadata if isinstance(value, str)}
        zero = _zero()
        span = self._requests.start_span(
            _NAMES[record.rpc],
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
        """Record a batch, and link it and its requests."""
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
        """End a request's span, with its stages'."""
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
        opened.span.set_attributes(_attributes(record))
        if record.code in _FAULTS:
            opened.span.set_status(Status(StatusCode.ERROR, record.reason or None))
        opened.span.end(opened.at(record.began + record.seconds))

    def close(self) -> None:
        """Export what is left, for so long as that may take; then leave the rest."""
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
    """What names this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    own: dict[str, AnyValue] = {
        "service.name": "textcam",
        "service.version": __version__,
        "process.pid": os.getpid(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _zero() -> int:
    return time.time_ns() - time.monotonic_ns()


def _attributes(record: RequestRecord) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "rpc.system.name": "grpc",
        "rpc.method": _NAMES[record.rpc],
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
