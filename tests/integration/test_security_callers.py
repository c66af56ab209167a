"""Who may call what, how often: tokens, JWTs, certificates' names, rights and rates."""

import base64
import hmac
import json
import queue
import time
from hashlib import sha256

import grpc
import jwt
import pytest
from authority import Authority
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from processes import running
from textcam.oip import open_inference_pb2 as oip
from textcam.oip import open_inference_pb2_grpc
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam_client import (
    CallError,
    Client,
    Overloaded,
    PermissionDenied,
    Retry,
    Unauthenticated,
)

ISSUER, AUDIENCE = "https://issuer.example", "textcam"
TOKENS = {
    name: f"textcam_{name}" + "x" * 40
    for name in ("all", "lister", "cats", "slow", "streamer", "reader")
}
ENTRIES = {
    "all": {},
    "lister": {"methods": ["ListModels"]},
    "cats": {"models": ["cats"]},
    "slow": {"rate": 2.0, "burst": 2},
    "streamer": {"rate": 0.01, "burst": 3},
    "reader": {"methods": ["GetModel", "ModelMetadata"]},
}
SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def entry(name, token, **rights):
    return {"name": name, "sha256": sha256(token.encode()).hexdigest(), **rights}


def write_callers(path, entries):
    path.write_text(json.dumps({"callers": entries}))


def public(key, kid):
    kind = jwt.algorithms.RSAAlgorithm if kid == "rsa" else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


def signed(key=SIGNER, algorithm="RS256", kid="rsa", **changes):
    """A JWT that may do all, but for the changes; a claim of None is left out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": time.time() + 600,
        "scope": "openid textcam:method:* textcam:model:photos",
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("callers")
    write_callers(made / "callers.json", [entry(n, TOKENS[n], **ENTRIES[n]) for n in ENTRIES])
    keys = [public(SIGNER, "rsa"), public(CURVE, "ec")]
    (made / "keys.json").write_text(json.dumps({"keys": keys}))
    return made


@pytest.fixture(scope="module")
def guarded(backbone_folder, folder):
    jwts = ["--jwt-keys", str(folder / "keys.json"), "--jwt-issuer", ISSUER]
    callers = ["--callers", str(folder / "callers.json"), "--jwt-audience", AUDIENCE]
    with running(*jwts, *callers) as started:
        yield started


def client_of(running, token, retry=None):
    return Client(
        running.address, metadata={"authorization": f"Bearer {token}"}, retry=retry, timeout=60
    )


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


def test_health_is_open_and_reflection_is_not(guarded):
    channel = grpc.insecure_channel(guarded.address)
    for path in (
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    ):
        assert channel.unary_unary(path)(b"", timeout=10)
    reflect = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    list_services = b"\x3a\x00"
    for token, expected in (
        (None, grpc.StatusCode.UNAUTHENTICATED),
        ("lister", grpc.StatusCode.PERMISSION_DENIED),
    ):
        headers = [("authorization", f"Bearer {TOKENS[token]}")] if token else []
        with pytest.raises(grpc.RpcError) as refused:
            list(reflect(iter([list_services]), metadata=headers, timeout=10))
        assert refused.value.code() is expected
    headers = [("authorization", f"Bearer {TOKENS['all']}")]
    (answer,) = reflect(iter([list_services]), metadata=headers, timeout=10)
    assert b"textcam.v1.ExplainerService" in answer


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


def test_a_jwt_calls_by_its_scopes(guarded, photos):
    for token in (signed(), signed(CURVE, "ES256", "ec")):
        with client_of(guarded, token) as client:
            assert client.explain(photos[0]).predictions
    with client_of(guarded, signed(scope="textcam:method:ListModels")) as client:
        assert client.models() == ()
        with pytest.raises(PermissionDenied):
            client.explain(photos[0])
    scope = "textcam:method:Explain textcam:model:cats"
    with client_of(guarded, signed(scope=scope)) as client, pytest.raises(PermissionDenied):
        client.explain(photos[0])
    with client_of(guarded, signed(scope=None)) as client, pytest.raises(PermissionDenied):
        client.models()


def unsigned(header, **changes):
    """A JWT without a signature, its header as given."""
    claims = jwt.decode(signed(**changes), options={"verify_signature": False})
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, claims)
    ]
    return f"{parts[0]}.{parts[1]}."


def confused():
    """Signed by HS256, with the public key for a secret; PyJWT itself refuses to make one."""
    pem = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = unsigned({"alg": "HS256", "typ": "JWT", "kid": "rsa"})[:-1]
    made = base64.urlsafe_b64encode(hmac.digest(pem, body.encode(), "sha256")).rstrip(b"=")
    return f"{body}.{made.decode()}"


FORGERIES = {
    "expired": lambda: signed(exp=time.time() - 600),
    "early": lambda: signed(nbf=time.time() + 600),
    "audience": lambda: signed(aud="another"),
    "issuer": lambda: signed(iss="https://another.example"),
    "no exp": lambda: signed(exp=None),
    "no aud": lambda: signed(aud=None),
    "no iss": lambda: signed(iss=None),
    "no sub": lambda: signed(sub=None),
    "other key": lambda: signed(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "wrong kid": lambda: signed(kid="ec"),
    "unknown kid": lambda: signed(kid="unknown"),
    "other algorithm": lambda: signed(SIGNER, "PS256"),
    "none": lambda: unsigned({"alg": "none", "typ": "JWT", "kid": "rsa"}),
    "empty signature": lambda: unsigned({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
    "public key as secret": confused,
    "signature": lambda: signed()[:-6] + "AAAAAA",
    "garbage": lambda: "a.b.c",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_jwt_that_is_forged_expired_or_for_another_is_refused(guarded, forge):
    with client_of(guarded, forge()) as client, pytest.raises(Unauthenticated):
        client.models()


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


def test_each_image_of_a_stream_and_of_a_batch_is_charged(guarded, photos, folder):
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


def test_callers_and_keys_that_change_count_at_once_even_within_a_stream(backbone_folder, tmp_path):
    path, keys = tmp_path / "callers.json", tmp_path / "keys.json"
    write_callers(path, [entry("old", "o" * 43), entry("stays", "s" * 43)])
    keys.write_text(json.dumps({"keys": [public(SIGNER, "rsa")]}))
    jwts = ["--jwt-keys", str(keys), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]
    with running("--callers", str(path), *jwts) as started:
        channel = grpc.insecure_channel(started.address)
        sent = queue.SimpleQueue()
        answers = explainer_pb2_grpc.ExplainerServiceStub(channel).ExplainStream(
            iter(sent.get, None), metadata=[("authorization", "Bearer " + "o" * 43)], timeout=120
        )
        sent.put(asked("one"))
        assert next(answers).error.code != grpc.StatusCode.UNAUTHENTICATED.value[0]
        write_callers(path, [entry("new", "n" * 43), entry("stays", "s" * 43)])
        keys.write_text(json.dumps({"keys": [public(CURVE, "ec")]}))
        time.sleep(1.1)
        sent.put(asked("two"))
        assert next(answers).error.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        sent.put(None)
        for token, known in (
            ("n" * 43, True),
            ("s" * 43, True),
            ("o" * 43, False),
            (signed(), False),
            (signed(CURVE, "ES256", "ec"), True),
        ):
            assert may_list(started, token) == known
        path.write_text('{"callers": [')
        time.sleep(1.1)
        assert may_list(started, "n" * 43)


def asked(request_id):
    request = pb.ExplainRequest(request_id=request_id, encoded=b"no image")
    return pb.ExplainStreamRequest(request=request)


def may_list(running, token):
    try:
        with client_of(running, token) as client:
            client.models()
    except Unauthenticated:
        return False
    return True


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
