"""A receiver of spans on loopback, and what spans and lines of a log hold."""

import json
import threading
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATIENCE_S = 30


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what a collector would."""

    def __init__(self):
        self.spans, self.resources, self._came = [], [], threading.Condition()

    def Export(self, request, context):  # noqa: N802 - gRPC's name
        with self._came:
            for group in request.resource_spans:
                self.resources.append(attributes(group.resource))
                for scope in group.scope_spans:
                    self.spans.extend(scope.spans)
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, found):
        """What `found` makes of the spans, once that is something."""
        with self._came:
            self._came.wait_for(lambda: found(self.spans), PATIENCE_S)
            return found(self.spans)

    def of_request(self, request_id):
        """A request's own span, once it came."""
        (span,) = self.wait_for(
            lambda spans: [
                s for s in spans if attributes(s).get("textcam.request_id") == request_id
            ]
        )
        return span

    def children(self, span):
        """By name; they end, and so are exported, before their parent."""
        return {child.name: child for child in self.spans if child.parent_span_id == span.span_id}


def attributes(holder):
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


def lines(log):
    """Every line, each of which must be an object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def answered(log, **fields):
    """The one line of an answered request with these fields, once it is written."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = [
            line
            for line in lines(log)
            if line["logger"] == "textcam.access" and fields.items() <= line.items()
        ]
        if found or time.monotonic() > until:
            (line,) = found
            return line
        time.sleep(0.05)


def batches(spans):
    return [span for span in spans if span.name == "batch"]
