"""Rates, and the files that say who may call."""

import json
from contextvars import copy_context
from hashlib import sha256

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from textcam_client import Tls
from textcam_client.options import settings as client_settings
from textcam_service.errors import AccessRefused, InvalidSettings, RateLimited
from textcam_service.serving.auth.authentication import (
    EVERYTHING,
    Credentials,
    Principal,
    read_callers,
    read_keys,
)
from textcam_service.serving.auth.authorization import Authorizer, RateLimiter
from textcam_service.serving.auth.reloading import ReloadingFiles
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings, read_settings

HASH = "0" * 64
METHODS = ("Explain", "ExplainStream", "ListModels")


def caller(name="a", rate=2.0, burst=4):
    return Principal(name, EVERYTHING, EVERYTHING, rate, burst)


@pytest.fixture
def rates():
    now = [100.0]
    made = RateLimiter(lambda: now[0])

    def charge(seconds, count, **who):
        now[0] += seconds
        made.charge(caller(**who), count)

    return charge


def wait_of(refused):
    return refused.value.retry_after_s


def test_a_burst_passes_and_then_the_rate(rates):
    """2 per second, 4 at once."""
    for _ in range(4):
        rates(0, 1)
    with pytest.raises(RateLimited) as refused:
        rates(0.25, 1)
    assert wait_of(refused) == pytest.approx(0.25)
    rates(0.25, 1)
    with pytest.raises(RateLimited):
        rates(0.1, 1)


def test_a_pause_saves_up_no_more_than_the_burst(rates):
    rates(0, 4)
    rates(1000, 4)
    with pytest.raises(RateLimited):
        rates(0, 1)


def test_a_batch_beyond_the_burst_passes_when_the_bucket_is_full_and_is_waited_for(rates):
    rates(0, 10)
    with pytest.raises(RateLimited) as refused:
        rates(0, 1)
    # 6 in debt: 1 more is there after (6 + 1) / 2 seconds.
    assert wait_of(refused) == pytest.approx(3.5)
    rates(3.5, 1)


def test_one_callers_rate_is_not_anothers_and_0_is_none(rates):
    rates(0, 4, name="a")
    rates(0, 4, name="b")
    rates(0, 1000, name="c", rate=0.0)
    rates(0, 1000, name="c", rate=0.0)
    with pytest.raises(RateLimited):
        rates(0, 1, name="a")


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


def test_callers_are_remembered_up_to_a_number():
    made = RateLimiter(lambda: 0.0)
    for number in range(20_000):
        made.charge(caller(str(number)), 1)
    assert len(made._levels) == 10_000
    assert "19999" in made._levels


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "a"}], "either 'sha256' or 'certificate'"),
        ([{"name": "a", "sha256": HASH, "certificate": "b"}], "either 'sha256' or 'certificate'"),
        ([{"name": "a", "sha256": "textcam_secret"}], "should match pattern"),
        ([{"name": "a", "sha256": HASH, "token": "textcam_secret"}], "not permitted"),
        ([{"name": "a", "sha256": HASH, "methods": ["Explan"]}], "no method Explan"),
        ([{"name": "a", "sha256": HASH, "rate": -1}], "greater than or equal to 0"),
        ([{"name": "a", "sha256": HASH}, {"name": "b", "sha256": HASH}], "the same sha256"),
        ([{"name": "a", "sha256": HASH}, {"name": "a", "certificate": "b"}], "the same name"),
    ],
)
def test_a_callers_file_at_fault_is_refused_and_not_quoted(entries, said):
    with pytest.raises(ValueError, match=said) as refused:
        read_callers(json.dumps({"callers": entries}).encode(), METHODS)
    assert "textcam_secret" not in str(refused.value)


def test_a_key_set_holds_public_keys_alone():
    key, curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(curve))
    secret = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}
    strange = {"kty": "of next year"}
    encrypting = {**public, "use": "enc"}
    (read,) = read_keys(json.dumps({"keys": [strange, public, encrypting]}).encode())
    assert read.algorithm_name == "RS256"
    for keys in ([public, private], [public, secret], [strange], [encrypting], []):
        with pytest.raises(ValueError, match="it holds"):
            read_keys(json.dumps({"keys": keys}).encode())
    for content in (b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b"\xff"):
        with pytest.raises(ValueError, match="not a JSON Web Key Set"):
            read_keys(content)


class Told(list):
    def on_reload(self, what, read):
        self.append(read)


def test_a_file_is_read_again_by_its_content_and_looked_at_once_a_second(tmp_path, monkeypatch):
    now, told, path = [0.0], Told(), tmp_path / "file"
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    path.write_text("1")
    number = ReloadingFiles("number", [path], int, told)
    path.write_text("2")
    assert number.get() == 1
    for written, expected, heard in [
        ("2", 2, [True]),
        ("2", 2, [True]),
        ("x", 2, [True, False]),
        ("x", 2, [True, False]),
        (None, 2, [True, False, False]),
        ("2", 2, [True, False, False, True]),
        ("3", 3, [True, False, False, True, True]),
    ]:
        now[0] += 1.1
        path.write_text(written) if written else path.unlink()
        assert number.get() == expected
        assert told == heard


def test_a_file_that_is_broken_to_begin_with_stops_the_start(tmp_path):
    with pytest.raises(InvalidSettings, match="the number is not usable"):
        ReloadingFiles("number", [tmp_path / "absent"], int, Told())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tls_certificate": "a"}, "tls_certificate, tls_key go together"),
        ({"tls_client_ca": "a"}, "tls_client_ca needs tls_certificate"),
        ({"jwt_keys": "a", "jwt_issuer": "b"}, "jwt_audience go together"),
    ],
)
def test_settings_that_would_leave_a_gap_are_refused(flags, said):
    with pytest.raises(InvalidSettings, match=said):
        read_settings(flags)


def test_the_client_shows_no_secret_of_its_own():
    tls = Tls(b"root", b"private key", b"chain")
    made = client_settings(
        "x:1",
        model=None,
        version=None,
        timeout=1,
        retry=None,
        tls=tls,
        metadata={"authorization": "Bearer textcam_secret"},
        max_message_bytes=1,
        channel=None,
    )
    assert "private key" not in repr(made)
    assert "textcam_secret" not in repr(made)
