"""A receiver of spans for the tests of traces."""

from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from traces import Receiver


@pytest.fixture(scope="module")
def receiver():
    taken, server = Receiver(), grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taken, server)
    taken.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield taken
    server.stop(None)
