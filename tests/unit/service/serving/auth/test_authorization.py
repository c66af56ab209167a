"""Methods, models and rates of the current call's caller."""

import json
import time
from contextvars import copy_context
from hashlib import sha256

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from textcam_service.errors import AccessRefused
from textcam_service.serving.auth.authentication import Credentials
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

METHODS = ("Explain", "ExplainStream", "ListModels")


@pytest.mark.parametrize(
    ("credentials", "name"),
    [
        (Credentials((), ("gateway.example",), "ipv4:10.0.0.1"), "certificate gateway.example"),
        (Credentials((), (), "ipv4:10.0.0.1"), ""),
    ],
)
def test_a_certificate_names_its_caller_and_an_address_does_not(credentials, name):
    def authorize_call():
        access = Authorizer(ServerSettings(rate=1), Metrics(), METHODS)
        access.authorize_call("ListModels", credentials, 1)
        return access.caller

    assert copy_context().run(authorize_call) == name


@pytest.fixture
def refusals(tmp_path):
    """What a caller of few rights and a burst of 1 hears, asking twice."""
    path, token = tmp_path / "callers.json", "t" * 43
    entry = {"name": "a", "sha256": sha256(token.encode()).hexdigest(), "rate": 0.001, "burst": 1}
    rights = {"methods": ["Explain"], "models": ["cats"]}
    path.write_text(json.dumps({"callers": [entry | rights]}))
    credentials = Credentials((f"Bearer {token}",), (), "ipv4:10.0.0.1")

    def ask(method, model):
        access, heard = Authorizer(ServerSettings(callers=path), Metrics(), METHODS), []
        for _ in range(2):
            try:
                access.authorize_call(method, credentials, 0)
                access.authorize_model(model, 1)
            except AccessRefused as error:
                heard.append(error.reason)
        return heard

    return lambda *asked: copy_context().run(ask, *asked)


@pytest.mark.parametrize(("method", "model"), [("ExplainStream", "cats"), ("Explain", "dogs")])
def test_refusals_are_charged(refusals, method, model):
    assert refusals(method, model) == ["PERMISSION_DENIED", "RATE_LIMITED"]


def test_of_a_name_that_is_refused_the_log_holds_no_more_than_a_names_length(refusals, caplog):
    caplog.set_level("INFO")
    refusals("Explain", "x" * 1_000_000)
    assert f"may not use the model '{'x' * 100}'" in caplog.text
    assert len(caplog.text) < 1000


def test_a_caller_sees_only_its_models(tmp_path):
    path, token = tmp_path / "callers.json", "t" * 43
    entry = {"name": "a", "sha256": sha256(token.encode()).hexdigest(), "models": ["cats"]}
    path.write_text(json.dumps({"callers": [entry]}))

    def look():
        access = Authorizer(ServerSettings(callers=path), Metrics(), METHODS)
        access.authorize_call("ListModels", Credentials((f"Bearer {token}",), (), "x"), 0)
        before = [access.can_see(name) for name in ("cats", "dogs")]
        path.write_text(json.dumps({"callers": [entry | {"sha256": "0" * 64}]}))
        access.poll()
        return before, access.can_see("cats")

    assert copy_context().run(look) == ([True, False], False)


def test_an_open_server_guards_nothing():
    access = Authorizer(ServerSettings(), Metrics(), METHODS)
    assert (access.guards, access.limits_models, access.can_see("cats")) == (False, False, True)
    access.authorize_model("cats", 1)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (
            {"scp": ["textcam:method:explain"]},
            "'textcam:method:explain' names no method",
        ),
        ({"permissions": []}, "no scope in 'scope' or 'scp'"),
        ({"scope": {}}, "'scope' is no text or list of texts"),
    ],
)
def test_the_log_says_what_in_a_refused_tokens_scopes_was_not_understood(
    tmp_path, caplog, claims, said
):
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{**public, "kid": "a"}]}))
    usual = {"iss": "i", "aud": "a", "sub": "u", "exp": time.time() + 600}
    token = jwt.encode({**usual, **claims}, key, "ES256", {"kid": "a"})
    settings = ServerSettings(
        jwt_keys=tmp_path / "keys.json", jwt_issuer="i", jwt_audience="a", port=0
    )

    def authorize():
        access = Authorizer(settings, Metrics(), METHODS)
        access.authorize_call("Explain", Credentials((f"Bearer {token}",), (), "address"), 0)

    with caplog.at_level("INFO"), pytest.raises(AccessRefused):
        copy_context().run(authorize)
    assert said in caplog.text
