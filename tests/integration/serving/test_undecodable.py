"""Bytes that are no message, sent to every method: refused in words, counted, logged in a line."""

import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from known import entry, write_callers
from model_callers import picture, publish, served
from small_models import write_model
from textcam.oip import open_inference_pb2
from textcam.v1 import explainer_pb2
from textcam.v1 import explainer_pb2 as pb
from textcam_service.store.models import ModelStore

CONTRACTS = (explainer_pb2, open_inference_pb2, health_pb2, reflection_pb2)
METHODS = [
    method
    for contract in CONTRACTS
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
GARBAGE = b"\xff\xfePRIVATE"
TOKEN = "known" * 20
KNOWN = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture(params=["open", "guarded"])
async def calls(request, tmp_path, caplog):
    """A server with JSON logs; one that asks who calls, and one that does not."""
    caplog.set_level(logging.INFO)
    store = ModelStore(tmp_path / "store")
    publish(store, write_model(tmp_path / "made", 0), "1")
    settings = {"log_format": "json", "health_port": 0}
    if request.param == "guarded":
        write_callers(tmp_path / "callers.json", [entry("known", TOKEN)])
        settings["callers"] = tmp_path / "callers.json"
    async with served(store.root, **settings) as caller:
        yield caller


async def refusal(channel, method, content):
    """How a call with these bytes ends, whichever its kind."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = "stream_stream" if method.client_streaming else "unary_unary"
    if method.server_streaming and not method.client_streaming:
        kind = "unary_stream"
    given = iter([content]) if method.client_streaming else content
    call = getattr(channel, kind)(path)(given, metadata=KNOWN, timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [answer async for answer in call] if method.server_streaming else await call
    return refused.value


def lines(caplog):
    return [record.request for record in caplog.records if record.name == "textcam.access"]


def reason(error):
    info = error_details_pb2.ErrorInfo()
    for packed in rpc_status.from_call(error).details:
        packed.Unpack(info)
    return info.reason


def assert_told_without_content(caplog):
    said = caplog.text
    assert "Traceback" not in said
    assert "PRIVATE" not in said
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_every_method_says_which_message_the_bytes_are_not(calls, caplog):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{calls.server.port}") as channel:
        for method in METHODS:
            error = await refusal(channel, method, GARBAGE)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, method.full_name
            assert f"not a valid {method.input_type.full_name};" in error.details()
            assert reason(error) == "UNDECODABLE_MESSAGE"
            (line,) = (line for line in lines(caplog) if line["method"] == method.name)
            assert (line["code"], line["reason"]) == ("INVALID_ARGUMENT", "UNDECODABLE_MESSAGE")
            assert set(line) <= {"method", "code", "reason", "caller"}
            counted = {"method": method.name, "code": "INVALID_ARGUMENT"}
            assert calls.metric("textcam_requests_total", **counted) == 1
    assert_told_without_content(caplog)
    assert calls.metric("textcam_unexpected_errors_total") == 0


async def test_the_health_port_refuses_them_too(calls, caplog):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{calls.server.health_port}") as channel:
        (health,) = health_pb2.DESCRIPTOR.services_by_name.values()
        for method in health.methods:
            error = await refusal(channel, method, GARBAGE)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert_told_without_content(caplog)


async def test_a_stream_answers_what_came_before_and_then_ends(calls, caplog):
    own = pb.ExplainRequest(request_id="1", encoded=picture(0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{calls.server.port}") as channel:
        path = "/textcam.v1.ExplainerService/ExplainStream"
        call = channel.stream_stream(path)(metadata=KNOWN, timeout=20)
        await call.write(pb.ExplainStreamRequest(request=own).SerializeToString())
        answer = pb.ExplainStreamResponse.FromString(await call.read())
        assert answer.response.predictions
        await call.write(GARBAGE)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "textcam.v1.ExplainStreamRequest" in refused.value.details()
    assert [line["code"] for line in lines(caplog)] == ["OK", "INVALID_ARGUMENT"]
    assert_told_without_content(caplog)
    assert (await calls.explainer.Explain(own, metadata=KNOWN)).predictions


async def test_a_text_that_is_no_utf8_is_found_too(calls):
    """It looks like a message until its strings are read."""
    broken = pb.ExplainRequest(request_id="AAAA").SerializeToString().replace(b"AAAA", b"\xff" * 4)
    (explain,) = (method for method in METHODS if method.name == "Explain")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{calls.server.port}") as channel:
        error = await refusal(channel, explain, broken)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
