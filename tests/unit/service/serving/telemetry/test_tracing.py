"""The tracer that exports nothing."""

import pytest
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import NoopTracer

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("metadata", "trace_id"),
    [
        ([("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")], TRACE),
        ([("x", "y"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")], TRACE),
        ([("traceparent", "nonsense")], ""),
        ([("traceparent", b"00")], ""),
        ([], ""),
    ],
)
def test_the_clients_trace_id_is_noted(metadata, trace_id):
    record = RequestRecord("Explain")
    NoopTracer().begin(record, metadata)
    assert record.trace_id == trace_id
