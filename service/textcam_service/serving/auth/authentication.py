"""Who may call: a file of callers, by hashed token or certificate, and JWTs by a file of keys.

A token's SHA-256 is enough, without salt or a slow hash: those protect passwords, which can be
guessed. `textcam token create` draws 256 random bits, which nobody guesses however fast the hash.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from textcam.oip import open_inference_pb2
from textcam.v1 import explainer_pb2

from textcam_service.errors import Unauthenticated
from textcam_service.serving.auth.reloading import ReloadEvents, ReloadingFiles
from textcam_service.settings import ServerSettings, faults_of

EVERYTHING = frozenset({"*"})
METHODS = frozenset(
    method.name
    for file in (explainer_pb2, open_inference_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
) | {"ServerReflectionInfo"}
# Public keys alone: with a secret, or none, whoever can check a token could also make one.
_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_CLOCKS_DIFFER_S = 10
_SCOPE = "textcam"


@dataclass(frozen=True)
class Credentials:
    """What a call shows of who makes it.

    Attributes:
        tokens: Of its `authorization` headers, each as it came.
        names: Of its verified certificate: common name, then alternative names.
        address: Where it comes from, without the port.
    """

    tokens: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    address: str


@dataclass(frozen=True)
class Principal:
    """Someone known, and what they may; "*" among names stands for all.

    Attributes:
        name: For the log, and for the rate.
        methods: Names of gRPC methods.
        models: Names of models.
        rate: Images and other calls per second; 0: any number.
        burst: How many of these at once.
        proven: Whether it is known who they are, not only where they call from.
    """

    name: str
    methods: frozenset[str]
    models: frozenset[str]
    rate: float
    burst: int
    proven: bool = True

    def may(self, names: frozenset[str], name: str) -> bool:
        """Whether `names`, the methods or the models, hold that one."""
        return name in names or "*" in names


class CallerEntry(BaseModel):
    """One caller in the callers' file; see Caller for the rights, and SECURITY.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    certificate: str | None = Field(None, min_length=1)
    methods: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _means_something(self) -> CallerEntry:
        if (self.sha256 is None) == (self.certificate is None):
            raise ValueError("a caller has either 'sha256' or 'certificate'")
        if unknown := set(self.methods) - METHODS - EVERYTHING:
            raise ValueError(f"there is no method {', '.join(sorted(unknown))}")
        return self


class _CallersFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    callers: tuple[CallerEntry, ...]


class Authenticator:
    """Knows callers by what they show.

    Args:
        settings: See ServerSettings.
        events: Told where the files change.

    Raises:
        InvalidSettings: A file is missing or broken.
    """

    def __init__(self, settings: ServerSettings, events: ReloadEvents) -> None:
        self._settings = settings
        self._entries: ReloadingFiles[tuple[CallerEntry, ...]] | None = None
        self._keys: ReloadingFiles[tuple[jwt.PyJWK, ...]] | None = None
        if settings.callers:
            self._entries = ReloadingFiles(
                "callers' file", [settings.callers], read_callers, events
            )
        if settings.jwt_keys:
            self._keys = ReloadingFiles("JWT keys", [settings.jwt_keys], read_keys, events)

    def look(self) -> None:
        """See whether the files changed."""
        for reloaded in (self._entries, self._keys):
            if reloaded is not None:
                reloaded.look()

    def identify(self, shown: Credentials) -> Principal:
        """Who makes a call: by token where it has one, else by certificate, else by address.

        Raises:
            Unauthenticated: Nobody known.
        """
        if shown.tokens and (self._entries or self._keys):
            return self._by_token(_bearer(shown.tokens))
        entries = self._entries.get() if self._entries else ()
        for entry in entries:
            if entry.certificate in shown.names:
                return self._caller(entry)
        if self._entries or self._keys:
            raise Unauthenticated(
                "say who calls: send the metadata 'authorization: Bearer TOKEN', or a certificate "
                "that the server's callers name"
            )
        if shown.names:
            return self._with_usual_rate(f"certificate {shown.names[0]}", EVERYTHING, EVERYTHING)
        anyone = self._with_usual_rate(f"address {shown.address}", EVERYTHING, EVERYTHING)
        return replace(anyone, proven=False)

    def _by_token(self, token: str) -> Principal:
        digest = sha256(token.encode()).hexdigest()
        found = None
        for entry in self._entries.get() if self._entries else ():
            # All of them, each in constant time: an answer's time tells nothing.
            if entry.sha256 and hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is not None:
            return self._caller(found)
        if self._keys is None:
            raise Unauthenticated("the token is not one of the server's callers")
        return self._by_jwt(token, self._keys.get())

    def _by_jwt(self, token: str, keys: Sequence[jwt.PyJWK]) -> Principal:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            fitting = [key for key in keys if key.key_id == kid or (kid is None and len(keys) == 1)]
            if len(fitting) != 1:
                raise Unauthenticated("the JWT's 'kid' names none of the server's keys")
            claims = jwt.decode(
                token,
                fitting[0],
                # The key's own, whatever the token's header says.
                algorithms=[fitting[0].algorithm_name],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=_CLOCKS_DIFFER_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, RecursionError, OverflowError) as error:
            raise Unauthenticated(f"the token is no caller's, nor a valid JWT: {error}") from error
        scopes = str(claims.get("scope", "")).split()
        methods, models = (_granted(scopes, kind) for kind in ("method", "model"))
        return self._with_usual_rate(f"subject {claims['sub']}", methods, models)

    def _caller(self, entry: CallerEntry) -> Principal:
        usual = self._settings
        return Principal(
            f"caller {entry.name}",
            frozenset(entry.methods),
            frozenset(entry.models),
            usual.rate if entry.rate is None else entry.rate,
            usual.burst if entry.burst is None else entry.burst,
        )

    def _with_usual_rate(
        self, name: str, methods: frozenset[str], models: frozenset[str]
    ) -> Principal:
        return Principal(name, methods, models, self._settings.rate, self._settings.burst)


def _bearer(tokens: Sequence[str]) -> str:
    scheme, _, token = tokens[0].partition(" ")
    if len(tokens) > 1 or scheme.lower() != "bearer" or not token:
        raise Unauthenticated("the metadata 'authorization' is 'Bearer TOKEN', once")
    return token


def _granted(scopes: Sequence[str], kind: str) -> frozenset[str]:
    """Names in scopes such as textcam:method:Explain or textcam:model:*."""
    prefix = f"{_SCOPE}:{kind}:"
    return frozenset(scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix))


def read_callers(content: bytes) -> tuple[CallerEntry, ...]:
    """Read the callers' file.

    Raises:
        ValueError: It is no such file; the message quotes nothing of it.
    """
    try:
        entries = _CallersFile.model_validate_json(content).callers
    except ValidationError as error:
        raise ValueError(faults_of(error)) from None
    for key in ("name", "sha256", "certificate"):
        given = [value for entry in entries if (value := getattr(entry, key)) is not None]
        if len(set(given)) < len(given):
            raise ValueError(f"two callers have the same {key}")
    return entries


def read_keys(content: bytes) -> tuple[jwt.PyJWK, ...]:
    """Read a JWKS file; keys of kinds that sign nothing here are passed over.

    Raises:
        ValueError: It is none, holds no key of use, or one that must not be there.
    """
    try:
        listed = json.loads(content)["keys"]
        keys = [key for key in listed if key.get("use", "sig") == "sig"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError("it is no JSON Web Key Set") from error
    if any(key.get("kty") == "oct" or "d" in key for key in keys):
        raise ValueError("it holds a secret or private key; a key set for callers has public ones")
    usable = []
    for key in keys:
        try:
            read = jwt.PyJWK(key)
        except jwt.PyJWTError:
            continue
        if read.algorithm_name in _ALGORITHMS:
            usable.append(read)
    if not usable:
        raise ValueError(f"it holds no key for {', '.join(sorted(_ALGORITHMS))}")
    return tuple(usable)
