"""The in-memory server's methods: refusals as statuses with details, and ends of streams."""

from __future__ import annotations

import grpc
import pytest
from client_samples import make_png
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc

PNG = make_png(0)


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(server.address) as channel:
        yield explainer_pb2_grpc.ExplainerServiceStub(channel)


def details(status):
    found = {}
    for packed in status.details:
        for kind in ("ErrorInfo", "BadRequest", "RetryInfo"):
            detail = getattr(error_details_pb2, kind)()
            if packed.Unpack(detail):
                found[kind] = detail
    return found


def items(*ids):
    return iter(
        [
            pb.ExplainStreamRequest(request=pb.ExplainRequest(request_id=own, encoded=PNG))
            for own in ids
        ]
    )


def test_a_refusal_has_its_reason_fields_and_delay_as_details(server, stub):
    server.fail_with("RESOURCE_EXHAUSTED", "FULL", retry_after=0.25, violations=[("image", "no")])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(pb.ExplainRequest(encoded=PNG))
    status = rpc_status.from_call(caught.value)
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    found = details(status)
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("FULL", "textcam")
    assert found["BadRequest"].field_violations[0].field == "image"
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 250


def test_a_refusal_without_fields_or_delay_has_the_reason_alone(server, stub):
    server.fail_with("UNAVAILABLE", "AWAY")
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetModel(pb.GetModelRequest())
    assert set(details(rpc_status.from_call(caught.value))) == {"ErrorInfo"}


def test_a_failed_item_harms_no_other_of_its_stream(server, stub):
    server.fail_with("NOT_FOUND", "GONE")
    responses = {each.request_id: each for each in stub.ExplainStream(items("a", "b", "c"))}
    assert set(responses) == {"a", "b", "c"}
    failed = [each for each in responses.values() if each.HasField("error")]
    assert len(failed) == 1
    assert details(failed[0].error)["ErrorInfo"].reason == "GONE"


@pytest.mark.parametrize("code", ["INTERNAL", "OK"])
def test_a_stream_breaks_after_so_many_responses(server, stub, code):
    server.break_stream(code, after=2)
    call, received = stub.ExplainStream(items("a", "b", "c", "d")), []
    try:
        received.extend(call)
    except grpc.RpcError:
        assert code != "OK"
    assert len(received) == 2
    assert call.code() is grpc.StatusCode[code]
    assert server.open_streams == 0
