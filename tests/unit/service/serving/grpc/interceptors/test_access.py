"""Calls are authorized before a message is read, and charged by call or by message."""

import json
from hashlib import sha256

import grpc
import pytest
from echo_server import Echo, explain, explain_stream, handlers, served
from textcam.v1 import explainer_pb2 as pb
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.grpc.interceptors import access
from textcam_service.serving.grpc.interceptors.access import AccessInterceptor
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

TOKEN = "t" * 43
BEARER = (("authorization", f"Bearer {TOKEN}"),)
REQUEST = pb.ExplainRequest(request_id="a").SerializeToString()


@pytest.fixture
def guard(tmp_path):
    """Make an interceptor whose one caller has these rights; it counts in `counted`."""
    counted = []

    def make(**rights):
        path = tmp_path / "callers.json"
        entry = {"name": "a", "sha256": sha256(TOKEN.encode()).hexdigest(), **rights}
        path.write_text(json.dumps({"callers": [entry]}))
        metrics = Metrics()
        authorizer = Authorizer(ServerSettings(callers=path), metrics, ("Explain", "ExplainStream"))
        return AccessInterceptor(authorizer, metrics, lambda *refusal: counted.append(refusal))

    make.counted = counted
    return make


async def test_a_known_caller_passes_and_an_unknown_one_is_refused(guard):
    async with served(guard()) as channel:
        assert await explain(channel)(REQUEST, metadata=BEARER)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await explain(channel)(REQUEST)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        stream = explain_stream(channel)()
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
    assert guard.counted == [
        ("Explain", grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        ("ExplainStream", grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    ]


async def test_a_method_without_a_right_is_refused(guard):
    async with served(guard(methods=["ExplainStream"])) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="no right to the method 'Explain'"):
            await explain(channel)(REQUEST, metadata=BEARER)
        stream = explain_stream(channel)(metadata=BEARER)
        await stream.write(pb.ExplainStreamRequest().SerializeToString())
        assert await stream.read() is not grpc.aio.EOF


@pytest.mark.parametrize(
    ("set_name", "passed"), [("_CHARGED_BY_IMAGE", 5), ("_CHARGED_BY_MESSAGE", 2)]
)
async def test_a_stream_is_charged_by_message_only_where_no_image_is(
    guard, monkeypatch, set_name, passed
):
    monkeypatch.setattr(access, "_CHARGED_BY_IMAGE", frozenset())
    monkeypatch.setattr(access, set_name, frozenset({"ExplainStream"}))
    async with served(guard(rate=0.001, burst=2)) as channel:
        stream = explain_stream(channel)(metadata=BEARER)
        for read in range(5):
            await stream.write(pb.ExplainStreamRequest().SerializeToString())
            if read < passed:
                await stream.read()
                continue
            with pytest.raises(grpc.aio.AioRpcError, match="rate limit"):
                await stream.read()
            break


async def test_an_unexpected_error_ends_the_call_and_reveals_nothing(guard, monkeypatch, caplog):
    interceptor = guard()
    monkeypatch.setattr(interceptor._authorizer, "authorize_call", lambda *_: 1 / 0)
    async with served(interceptor) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="internal server error") as failed:
            await explain(channel)(REQUEST, metadata=BEARER)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "the caller of Explain could not be authenticated" in caplog.text
    assert interceptor._metrics.registry.get_sample_value("textcam_unexpected_errors_total") == 1


async def test_probes_need_no_credentials_and_are_waited_for_only_briefly(guard, monkeypatch):
    monkeypatch.setattr(access, "_OPEN", ("/textcam.v1.ExplainerService/Explain",))
    monkeypatch.setattr(access, "_OPEN_MESSAGE_S", 0.05)
    async with served(guard(), generic=handlers(Echo())) as channel:
        assert await explain(channel)(REQUEST)
        silent = channel.stream_unary("/textcam.v1.ExplainerService/Explain")()
        with pytest.raises(grpc.aio.AioRpcError, match="did not arrive within") as late:
            await silent
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
