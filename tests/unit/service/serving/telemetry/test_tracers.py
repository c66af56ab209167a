"""Choice of the tracer."""

import sys

import pytest
from textcam_service.errors import MissingExtra
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracers import make_tracer
from textcam_service.serving.telemetry.tracing import NoopTracer
from textcam_service.settings import ServerSettings

ENDPOINT = {"otlp_endpoint": "http://127.0.0.1:1"}


def test_without_an_endpoint_nothing_is_exported():
    assert isinstance(make_tracer(ServerSettings(), {}), NoopTracer)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "textcam_service.serving.telemetry.otlp", None)
    monkeypatch.delitem(sys.modules, "textcam_service.serving.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(MissingExtra, match=r"extra 'tracing' .* pip install"):
        make_tracer(ServerSettings(**ENDPOINT), {})


def test_spans_have_the_full_names_that_are_handed_in():
    pytest.importorskip("opentelemetry")
    tracer = make_tracer(ServerSettings(**ENDPOINT), {"Explain": "package.Service/Explain"})
    record = RequestRecord("Explain")
    tracer.begin(record, [])
    try:
        assert record.span.span.name == "package.Service/Explain"
        assert len(record.trace_id) == 32
    finally:
        tracer._processor.shutdown = lambda: None  # nothing listens at the endpoint
        tracer.close()
