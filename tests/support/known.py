"""Callers for the tests: their file's entries, and JWTs with the keys that sign them."""

from __future__ import annotations

import json
import time
from hashlib import sha256

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from textcam_client import Client

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LIST_SERVICES = b"\x3a\x00"  # a question of reflection
ISSUER, AUDIENCE = "https://issuer.example", "textcam"
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


def client_of(running, token, retry=None):
    return Client(
        running.address, metadata={"authorization": f"Bearer {token}"}, retry=retry, timeout=60
    )


def jwt_flags(path, keys):
    """Write a key set, and return the flags by which a server takes JWTs of these keys."""
    path.write_text(json.dumps({"keys": keys}))
    return ["--jwt-keys", str(path), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]
