"""The stub reaches the service and the health service on one channel."""

from __future__ import annotations

import grpc
from client_samples import make_png
from grpc_health.v1 import health_pb2
from textcam.v1 import explainer_pb2 as pb
from textcam_client._transport.stub import Stub


def test_the_methods_of_both_services_are_called(server):
    with grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        checked = stub.Check(health_pb2.HealthCheckRequest())
        explained = stub.Explain(pb.ExplainRequest(request_id="r", encoded=make_png(0)))
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    assert explained.request_id == "r"
