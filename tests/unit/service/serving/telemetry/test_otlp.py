"""Spans of requests, stages and batches, without a collector."""

import pytest
from textcam_service.serving.telemetry.record import RequestRecord

pytest.importorskip("opentelemetry.exporter.otlp")

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode
from textcam_service.serving.telemetry.otlp import OtlpTracer

NAMES = {"Explain": "package.Service/Explain"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


@pytest.fixture
def traced():
    """A tracer and a function that makes it and keeps its spans."""
    made = []

    def make(ratio=1.0):
        tracer, kept = OtlpTracer("http://127.0.0.1:1", ratio, NAMES), Kept()
        made.append(tracer)
        for own in (tracer._requests, tracer._batches):
            own.span_processor._span_processors = (kept,)  # nothing listens at the endpoint
        return tracer, kept

    yield make
    for tracer in made:
        tracer.close()


def record(**fields):
    return RequestRecord("Explain", model="m", version="1", **fields)


def test_a_request_has_a_span_with_its_name_and_one_per_stage(traced):
    tracer, kept = traced()
    own = record(began=100.0)
    own.stages["decode"] = (100.0, 0.5)
    tracer.begin(own, [("traceparent", f"00-{TRACE}-{PARENT}-01")])
    own.code, own.seconds = "OK", 2.0
    tracer.end(own)
    stage, request = kept.spans
    assert (stage.name, request.name) == ("decode", "package.Service/Explain")
    assert stage.parent.span_id == request.context.span_id
    assert f"{request.parent.span_id:016x}" == PARENT
    assert own.trace_id == TRACE
    assert stage.end_time - stage.start_time == pytest.approx(5e8, abs=1e3)
    assert request.end_time - request.start_time == pytest.approx(2e9, abs=1e3)
    assert request.attributes["rpc.method"] == "package.Service/Explain"
    assert request.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("code", "is_error"), [("INTERNAL", True), ("UNAVAILABLE", True), ("INVALID_ARGUMENT", False)]
)
def test_errors_of_the_server_alone_mark_a_span(traced, code, is_error):
    tracer, kept = traced()
    own = record()
    tracer.begin(own, [])
    own.code, own.reason = code, "REASON"
    tracer.end(own)
    assert (kept.spans[-1].status.status_code is StatusCode.ERROR) == is_error
    assert kept.spans[-1].attributes["error.type"] == "REASON"


def test_a_batch_links_its_requests_and_they_link_it(traced):
    tracer, kept = traced()
    one, other = record(), record()
    for own in (one, other):
        tracer.begin(own, [])
    tracer.batch([one, other], "cpu", 1.0, 0.5, failed=True)
    (batch,) = kept.spans
    assert len(batch.links) == 2
    assert batch.attributes["textcam.batch.size"] == 2
    assert batch.status.status_code is StatusCode.ERROR
    one.stages["inference"] = (1.0, 0.5)
    tracer.end(one)
    inference = kept.spans[1]
    assert [link.context.span_id for link in inference.links] == [batch.context.span_id]


def test_requests_beyond_the_sample_have_a_trace_id_and_no_span(traced):
    tracer, kept = traced(ratio=0.0)
    own = record()
    tracer.begin(own, [])
    tracer.batch([own], "cpu", 1.0, 0.5, failed=False)
    tracer.end(own)
    assert (len(own.trace_id), own.span, kept.spans) == (32, None, [])
