"""Choice of the tracer."""

import sys

import pytest
from textcam_service.errors import MissingExtra
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
