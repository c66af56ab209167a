"""Callers by JWT: scopes, forgeries, and keys that change while the server runs."""

import base64
import hmac
import json
import queue
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from known import (
    CURVE,
    LIST_SERVICES,
    REFLECTION,
    SIGNER,
    client_of,
    entry,
    jwt_flags,
    public,
    signed,
    write_callers,
)
from processes import running
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import explainer_pb2_grpc
from textcam_client import (
    PermissionDenied,
    Unauthenticated,
)


@pytest.fixture(scope="module")
def guarded(backbone_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    with running(*jwt_flags(path, [public(SIGNER, "rsa"), public(CURVE, "ec")])) as started:
        yield started


def test_a_jwt_calls_by_its_scopes(guarded, photos):
    for token in (signed(), signed(CURVE, "ES256", "ec")):
        with client_of(guarded, token) as client:
            assert client.explain(photos[0]).predictions
    rights = ["textcam:method:Explain", "textcam:model:photos"]
    for changes in ({"scope": rights}, {"scope": None, "scp": rights}):
        with client_of(guarded, signed(**changes)) as client:
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
    # Python's JSON reader gives up on these with no error of PyJWT's.
    "deep": lambda: base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.x",
    "endless": lambda: signed(exp=float("inf")),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_jwt_that_is_forged_expired_or_for_another_is_refused(guarded, forge):
    with client_of(guarded, forge()) as client, pytest.raises(Unauthenticated):
        client.models()


def test_callers_and_keys_that_change_count_at_once_even_within_a_stream(backbone_folder, tmp_path):
    path, keys = tmp_path / "callers.json", tmp_path / "keys.json"
    write_callers(path, [entry("old", "o" * 43), entry("stays", "s" * 43)])
    jwts = jwt_flags(keys, [public(SIGNER, "rsa")])
    with running("--callers", str(path), *jwts) as started:
        channel = grpc.insecure_channel(started.address)
        sent = queue.SimpleQueue()
        answers = explainer_pb2_grpc.ExplainerServiceStub(channel).ExplainStream(
            iter(sent.get, None), metadata=[("authorization", "Bearer " + "o" * 43)], timeout=120
        )
        sent.put(asked("one"))
        assert next(answers).error.code != grpc.StatusCode.UNAUTHENTICATED.value[0]
        write_callers(path, [entry("new", "n" * 43), entry("stays", "s" * 43)])
        jwt_flags(keys, [public(CURVE, "ec")])
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


def test_a_method_that_is_taken_back_ends_in_open_streams_too(backbone_folder, tmp_path):
    path, metadata = tmp_path / "callers.json", [("authorization", "Bearer " + "t" * 43)]
    write_callers(path, [entry("t", "t" * 43)])
    with running("--callers", str(path)) as started:
        channel = grpc.insecure_channel(started.address)
        items, questions = queue.SimpleQueue(), queue.SimpleQueue()
        answers = explainer_pb2_grpc.ExplainerServiceStub(channel).ExplainStream(
            iter(items.get, None), metadata=metadata, timeout=120
        )
        told = channel.stream_stream(REFLECTION)(
            iter(questions.get, None), metadata=metadata, timeout=120
        )
        items.put(asked("one"))
        questions.put(LIST_SERVICES)
        assert next(answers).error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert b"textcam.v1.ExplainerService" in next(told)
        write_callers(path, [entry("t", "t" * 43, methods=["ListModels"])])
        time.sleep(1.1)
        questions.put(LIST_SERVICES)
        for request_id in ("two", ""):
            items.put(asked(request_id))
            assert next(answers).error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
        with pytest.raises(grpc.RpcError) as refused:
            next(told)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        items.put(None)


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
