"""Who may call what, how often: tokens, certificates' names, rights and rates."""

import base64
import re
import threading
import time
import urllib.request
from hashlib import sha256

import grpc
import pytest
from authority import Authority
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from known import LIST_SERVICES, REFLECTION, client_of, entry, write_callers
from processes import running
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam.v1 import types_pb2 as types_pb
from textcam_client import (
    CallError,
    Client,
    Overloaded,
    PermissionDenied,
    Retry,
    Unauthenticated,
)

TOKENS = {
    name: f"textcam_{name}" + "x" * 40
    for name in ("all", "lister", "cats", "slow", "streamer", "reader", "explainer", "asker")
}
ENTRIES = {
    "all": {},
    "lister": {"methods": ["ListModels"]},
    "cats": {"models": ["cats"]},
    "slow": {"rate": 2.0, "burst": 2},
    "streamer": {"rate": 0.01, "burst": 3},
    "reader": {"methods": ["GetModel", "ModelMetadata"]},
    "asker": {"rate": 0.01, "burst": 3},
    "explainer": {"methods": ["Explain", "ExplainStream"]},
}


OPEN = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)


@pytest.fixture(scope="module")
def guarded(backbone_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("callers") / "callers.json"
    write_callers(path, [entry(name, TOKENS[name], **ENTRIES[name]) for name in ENTRIES])
    with running("--callers", str(path)) as started:
        yield started


def test_a_known_token_calls_and_no_token_or_a_wrong_one_does_not(guarded, photos):
    with client_of(guarded, TOKENS["all"]) as client:
        assert client.explain(photos[0]).predictions
        assert [model.name for model in client.models()] == ["photos"]
    for headers in (
        {},
        {"authorization": "Bearer " + TOKENS["all"][:-1]},
        {"authorization": "Bearer"},
        {"authorization": "Basic " + base64.b64encode(b"all:x").decode()},
        # The file holds this; who reads the file must not be able to call.
        {"authorization": "Bearer " + sha256(TOKENS["all"].encode()).hexdigest()},
    ):
        with Client(guarded.address, metadata=headers, retry=None) as client:
            for call in (client.models, client.model, lambda c=client: c.explain(photos[0])):
                with pytest.raises(Unauthenticated) as refused:
                    call()
                assert refused.value.reason == "UNAUTHENTICATED"
            (item,) = client.explain_many([photos[0]], on_error="return")
            assert isinstance(item, Unauthenticated)


def test_a_caller_who_may_explain_alone_can_wait_until_the_server_is_ready(guarded, photos):
    with client_of(guarded, TOKENS["explainer"]) as client:
        client.wait_ready(timeout=30)
        assert client.explain(photos[0]).predictions
        with pytest.raises(PermissionDenied):
            client.models()


def test_two_authorization_headers_are_refused(guarded):
    stub = explainer_pb2_grpc.ExplainerServiceStub(grpc.insecure_channel(guarded.address))
    headers = [("authorization", f"Bearer {TOKENS[name]}") for name in ("all", "lister")]
    with pytest.raises(grpc.RpcError) as refused:
        stub.ListModels(pb.ListModelsRequest(), metadata=headers, timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_nobody_unknown_makes_the_server_wait_for_a_message(guarded):
    """The refusal comes although the message never does: it is not read first."""
    held = grpc.insecure_channel(guarded.address).stream_unary(
        "/textcam.v1.ExplainerService/Explain"
    )

    def never():
        time.sleep(5)
        yield b""

    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        held(never(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("path", OPEN)
def test_nobody_unknown_makes_the_server_hold_what_never_ends(guarded, path):
    held = grpc.insecure_channel(guarded.address).stream_stream(path)
    silence = threading.Event()

    def never():
        silence.wait(30)
        yield b""

    with pytest.raises(grpc.RpcError) as refused:
        next(held(never(), timeout=20))
    silence.set()
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused.value.details() == "the request did not arrive within 2 s"


def test_a_watch_of_the_health_needs_no_token_and_is_told_at_once(guarded):
    watch = grpc.insecure_channel(guarded.address).unary_stream("/grpc.health.v1.Health/Watch")
    call = watch(b"", timeout=20)
    assert health_pb2.HealthCheckResponse.FromString(next(call)).status == 1
    call.cancel()


def test_compressed_messages_are_not_inflated(guarded):
    """A few kilobytes may stand for many megabytes, which are compared with no limit."""
    call = grpc.insecure_channel(guarded.address).unary_unary("/grpc.health.v1.Health/Check")
    service = health_pb2.HealthCheckRequest(service="a" * 10_000).SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        call(service, timeout=10, compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as refused:
        call(service, timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("path", [REFLECTION, REFLECTION.replace("v1alpha", "v1")])
def test_health_is_open_and_reflection_is_not(guarded, path):
    channel = grpc.insecure_channel(guarded.address)
    for probe in OPEN:
        assert channel.unary_unary(probe)(b"", timeout=10)
    reflect = channel.stream_stream(path)
    for token, expected in (
        (None, grpc.StatusCode.UNAUTHENTICATED),
        ("lister", grpc.StatusCode.PERMISSION_DENIED),
    ):
        headers = [("authorization", f"Bearer {TOKENS[token]}")] if token else []
        with pytest.raises(grpc.RpcError) as refused:
            list(reflect(iter([LIST_SERVICES]), metadata=headers, timeout=10))
        assert refused.value.code() is expected
    headers = [("authorization", f"Bearer {TOKENS['all']}")]
    (answer,) = reflect(iter([LIST_SERVICES]), metadata=headers, timeout=10)
    assert b"textcam.v1.ExplainerService" in answer


def test_each_question_of_reflection_is_charged(guarded):
    reflect = grpc.insecure_channel(guarded.address).stream_stream(REFLECTION)
    headers = [("authorization", f"Bearer {TOKENS['asker']}")]
    answers = reflect(iter([LIST_SERVICES] * 4), metadata=headers, timeout=10)
    assert [len(next(answers)) > 0 for _ in range(3)] == [True] * 3
    with pytest.raises(grpc.RpcError, match="the rate limit is") as refused:
        next(answers)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_rights_to_methods_hold_for_each_contract(guarded, photos):
    with client_of(guarded, TOKENS["lister"]) as client:
        assert client.models()
        for call in (client.model, lambda: client.explain(photos[0])):
            with pytest.raises(PermissionDenied) as refused:
                call()
            assert refused.value.reason == "PERMISSION_DENIED"
        (item,) = client.explain_many([photos[0]], on_error="return")
        assert isinstance(item, PermissionDenied)
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(guarded.address))
    headers = [("authorization", f"Bearer {TOKENS['reader']}")]
    asked = oip.ModelMetadataRequest(name="photos")
    assert stub.ModelMetadata(asked, metadata=headers, timeout=10).platform == "textcam"
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(infer(photos[:1]), metadata=headers, timeout=30)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def infer(photos, model="photos"):
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(photos)]
    )
    tensor.contents.bytes_contents.extend(photo.read_bytes() for photo in photos)
    return oip.ModelInferRequest(model_name=model, inputs=[tensor])


def test_rights_to_models_hold_for_each_request_named_or_not(guarded, photos):
    """The one that is served, by its name or by none; also inside a stream and by OIP."""
    with client_of(guarded, TOKENS["cats"]) as client:
        assert client.models() == ()
        for name in ("photos", None):
            with pytest.raises(PermissionDenied):
                client.explain(photos[0], model=name)
            with pytest.raises(PermissionDenied):
                client.model(name)
            items = client.explain_many(photos[:2], model=name, on_error="return")
            assert [type(item) for item in items] == [PermissionDenied] * 2
        with pytest.raises(CallError) as absent:
            client.explain(photos[0], model="cats")
        assert absent.value.reason == "UNKNOWN_MODEL"
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(guarded.address))
    headers = [("authorization", f"Bearer {TOKENS['cats']}")]
    for call, asked in (
        (stub.ModelInfer, infer(photos[:1])),
        (stub.ModelInfer, infer(photos[:1], "")),
        (stub.ModelReady, oip.ModelReadyRequest(name="photos")),
        (stub.ModelMetadata, oip.ModelMetadataRequest(name="photos")),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(asked, metadata=headers, timeout=30)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_sdk_waits_as_the_rate_asks(guarded, photos):
    """2 per second, 2 at once: 6 images take 2 seconds and none is lost."""
    with client_of(guarded, TOKENS["slow"], Retry(attempts=20)) as client:
        begun = time.monotonic()
        answers = [client.explain(photos[2]) for _ in range(6)]
        assert len(answers) == 6
        assert time.monotonic() - begun > 1.9
    time.sleep(1.1)
    with client_of(guarded, TOKENS["slow"]) as client:
        assert client.models()
        assert client.models()
        with pytest.raises(Overloaded) as refused:
            client.models()
    assert refused.value.reason == "RATE_LIMITED"
    assert 0 < refused.value.retry_after <= 0.5


def test_each_image_of_a_stream_and_of_a_batch_is_charged(guarded, photos):
    """3 at once and then next to nothing; other callers do not feel it."""
    with client_of(guarded, TOKENS["streamer"]) as client:
        items = list(client.explain_many([photos[2]] * 8, on_error="return"))
        refused = [item for item in items if isinstance(item, Overloaded)]
        assert (len(items) - len(refused), len(refused)) == (3, 5)
        assert {item.reason for item in refused} == {"RATE_LIMITED"}
    with client_of(guarded, TOKENS["all"]) as client:
        assert client.explain(photos[2]).predictions
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(guarded.address))
    headers = [("authorization", f"Bearer {TOKENS['streamer']}")]
    with pytest.raises(grpc.RpcError) as batch:
        stub.ModelInfer(infer(photos[:2]), metadata=headers, timeout=30)
    reason = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(batch.value).details[0].Unpack(reason)
    assert reason.reason == "RATE_LIMITED"


def test_what_a_known_caller_cancels_is_ended(guarded, photos):
    """The guard stands between gRPC and the method; cancelling must pass through it."""
    counted = 'textcam_requests_total{{code="CANCELLED",method="{}"}}'
    channel = grpc.insecure_channel(guarded.address)
    stub = explainer_pb2_grpc.ExplainerServiceStub(channel)
    headers = [("authorization", f"Bearer {TOKENS['all']}")]
    many = [
        pb.ExplainStreamRequest(
            request=pb.ExplainRequest(
                request_id=str(number),
                encoded=photos[3].read_bytes(),
                method=types_pb.CAM_METHOD_SCORE_CAM,
            )
        )
        for number in range(6)
    ]
    for method, call in {
        "ExplainStream": lambda: stub.ExplainStream(iter(many), metadata=headers),
        "Explain": lambda: stub.Explain.future(many[0].request, metadata=headers),
    }.items():
        begun = call()
        until(lambda: value(guarded, "textcam_requests_in_flight") > 0)
        begun.cancel()
        until(lambda: value(guarded, "textcam_requests_in_flight") == 0)
        assert value(guarded, counted.format(method)) >= 1


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def value(running, metric):
    with urllib.request.urlopen(running.metrics) as page:
        found = re.search(rf"^{re.escape(metric)} ([0-9.e+]+)$", page.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_certificate_that_the_callers_name_calls_by_its_rights(backbone_folder, tmp_path):
    authority = Authority("test authority")
    authority.pair("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    path = tmp_path / "callers.json"
    gateway = {"name": "gateway", "certificate": "gateway.example", "methods": ["ListModels"]}
    write_callers(path, [gateway, entry("token", "t" * 43)])
    files = {"tls-certificate": "tls.crt", "tls-key": "tls.key", "tls-client-ca": "ca.crt"}
    flags = [part for k, v in files.items() for part in (f"--{k}", str(tmp_path / v))]
    with running(*flags, "--callers", str(path)) as started:
        known = authority.tls(authority.pair("gateway.example"))
        with Client(started.address, tls=known, retry=None) as client:
            assert client.models()
            with pytest.raises(PermissionDenied):
                client.model()
        other = authority.tls(authority.pair("other.example"))
        nobody = Client(started.address, tls=other, retry=None)
        with nobody as client, pytest.raises(Unauthenticated):
            client.models()
        headers = {"authorization": "Bearer " + "t" * 43}
        with Client(started.address, tls=other, metadata=headers, retry=None) as client:
            assert client.model()
