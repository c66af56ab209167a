"""Callers by hashed token, certificate, JWT and address; and the files that name them."""

import json
import time
from hashlib import sha256

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from textcam_service.errors import InvalidSettings, Unauthenticated
from textcam_service.serving.auth.authentication import (
    Authenticator,
    Credentials,
    read_callers,
    read_keys,
)
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

HASH = "0" * 64
METHODS = ("Explain", "ExplainStream", "ListModels")


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


TOKEN = "t" * 43
ISSUER = {"jwt_issuer": "https://issuer", "jwt_audience": "textcam"}


@pytest.fixture(scope="module")
def signing():
    return rsa.generate_private_key(65537, 2048)


def jwks(key, kid):
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [{**public, "kid": kid}]})


def signed(key, kid="k", **changes):
    claims = {
        "exp": time.time() + 60,
        "iss": ISSUER["jwt_issuer"],
        "aud": ISSUER["jwt_audience"],
        "sub": "someone",
        "scope": "textcam:method:Explain textcam:model:* other:method:ListModels",
    }
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(claims, key, "RS256", {"kid": kid})


@pytest.fixture
def authenticator(tmp_path, signing):
    callers, keys = tmp_path / "callers.json", tmp_path / "keys.json"
    entries = [
        {"name": "a", "sha256": sha256(TOKEN.encode()).hexdigest(), "rate": 3, "models": ["m"]},
        {"name": "b", "certificate": "b.example", "methods": ["Explain"], "burst": 7},
    ]
    callers.write_text(json.dumps({"callers": entries}))
    keys.write_text(jwks(signing, "k"))
    settings = ServerSettings(callers=callers, jwt_keys=keys, rate=2, burst=5, **ISSUER)
    return Authenticator(settings, Metrics(), METHODS)


def bearer(token):
    return Credentials((f"Bearer {token}",), (), "ipv4:10.0.0.1")


def test_a_token_a_certificate_and_a_jwt_each_name_a_caller_with_its_rights(authenticator, signing):
    by_token = authenticator.authenticate(bearer(TOKEN))
    assert (by_token.name, by_token.rate, by_token.burst) == ("caller a", 3, 5)
    assert by_token.is_allowed(by_token.methods, "ListModels")
    assert not by_token.is_allowed(by_token.models, "other")
    shown = Credentials((), ("unknown", "b.example"), "ipv4:10.0.0.1")
    by_certificate = authenticator.authenticate(shown)
    assert (by_certificate.name, by_certificate.rate, by_certificate.burst) == ("caller b", 2, 7)
    by_jwt = authenticator.authenticate(bearer(signed(signing)))
    assert (by_jwt.name, by_jwt.methods, by_jwt.models) == (
        "subject someone",
        {"Explain"},
        {"*"},
    )
    assert all(caller.proven for caller in (by_token, by_certificate, by_jwt))


@pytest.mark.parametrize(
    ("credentials", "fault"),
    [
        (Credentials((), (), "ipv4:10.0.0.1"), "no credentials: send the metadata"),
        (Credentials((), ("c.example",), "ipv4:10.0.0.1"), "no credentials: send the metadata"),
        (Credentials((TOKEN,), (), "ipv4:10.0.0.1"), "once, as 'Bearer TOKEN'"),
        (Credentials((f"Bearer {TOKEN}",) * 2, (), "ipv4:10.0.0.1"), "once, as 'Bearer TOKEN'"),
        (bearer("wrong"), "not a valid JWT"),
    ],
)
def test_other_credentials_are_refused_with_the_mend(authenticator, credentials, fault):
    with pytest.raises(Unauthenticated, match=fault):
        authenticator.authenticate(credentials)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"iss": "https://other"}, "issuer"),
        ({"aud": "other"}, "[Aa]udience"),
        ({"sub": None}, "sub"),
        ({"kid": "other"}, "matches no key"),
    ],
)
def test_a_jwt_with_a_wrong_claim_is_refused(authenticator, signing, changes, fault):
    with pytest.raises(Unauthenticated, match=fault):
        authenticator.authenticate(bearer(signed(signing, **changes)))


def test_a_jwt_of_another_key_is_refused(authenticator):
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(Unauthenticated, match="Signature verification failed"):
        authenticator.authenticate(bearer(signed(other)))


def test_a_server_without_callers_knows_certificates_and_addresses():
    authenticator = Authenticator(ServerSettings(), Metrics(), METHODS)
    named = authenticator.authenticate(Credentials((), ("b.example",), "ipv4:10.0.0.1"))
    assert (named.name, named.proven) == ("certificate b.example", True)
    plain = authenticator.authenticate(bearer(TOKEN))
    assert (plain.name, plain.proven) == ("address ipv4:10.0.0.1", False)


def test_a_callers_file_that_grants_an_unknown_method_stops_the_start(tmp_path):
    path = tmp_path / "callers.json"
    entry = {"name": "a", "sha256": HASH, "methods": ["Explan"]}
    path.write_text(json.dumps({"callers": [entry]}))
    with pytest.raises(InvalidSettings, match="caller 'a': there is no method Explan"):
        Authenticator(ServerSettings(callers=path), Metrics(), METHODS)
