"""Authentication of callers: by hashed token or certificate from a file, or by JWT.

A token's SHA-256 is enough, without salt or a slow hash. Those protect passwords, which can be
guessed; `textcam token create` draws 256 random bits, which cannot.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from textcam_service.errors import Unauthenticated
from textcam_service.serving.auth.reloading import ReloadEvents, ReloadingFiles
from textcam_service.serving.auth.scopes import read_scopes
from textcam_service.settings import ServerSettings, faults_of

EVERYTHING = frozenset({"*"})
# Public keys alone: a secret that verifies tokens could also sign them.
_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_CLOCK_SKEW_S = 10


@dataclass(frozen=True)
class Credentials:
    """Credentials presented by a call.

    Attributes:
        tokens: Values of its `authorization` metadata, unchanged.
        names: Names in its verified certificate: common name, then alternative names.
        address: The peer's address without the port.
    """

    tokens: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...]
    address: str


@dataclass(frozen=True)
class Principal:
    """An identified caller and its rights; "*" among names stands for all.

    Attributes:
        name: Name in the log and key of the rate limit.
        methods: Short names of the gRPC methods that it may call.
        models: Names of the models that it may use.
        rate: Images and other calls per second; 0 for no limit.
        burst: Images and other calls at once.
        proven: Whether the caller is authenticated, not only known by its address.
        faults: Of a JWT's scopes, for the log; see Scopes.
    """

    name: str
    methods: frozenset[str]
    models: frozenset[str]
    rate: float
    burst: int
    proven: bool = True
    faults: tuple[str, ...] = ()

    def is_allowed(self, granted: frozenset[str], name: str) -> bool:
        """Return True if `granted`, the caller's methods or models, includes a name."""
        return name in granted or "*" in granted


class CallerEntry(BaseModel):
    """Entry of the callers' file; see Principal for the rights, and SECURITY.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    certificate: str | None = Field(None, min_length=1)
    methods: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check_credential(self) -> CallerEntry:
        if (self.sha256 is None) == (self.certificate is None):
            raise ValueError("give each caller either 'sha256' or 'certificate'")
        return self

    def check_methods(self, methods: Collection[str]) -> None:
        """Check the granted methods against those that exist.

        Args:
            methods: Short names of all methods.

        Raises:
            ValueError: A granted method does not exist.
        """
        if unknown := set(self.methods) - set(methods) - EVERYTHING:
            raise ValueError(
                f"caller '{self.name}': there is no method {', '.join(sorted(unknown))}; methods "
                f"are {', '.join(sorted(methods))}"
            )


class _CallersFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    callers: tuple[CallerEntry, ...]


class Authenticator:
    """Authenticator of callers by their credentials.

    Args:
        settings: See ServerSettings.
        events: Callbacks for changed files.
        methods: Short names of all gRPC methods that may be granted.

    Raises:
        InvalidSettings: A file is missing or broken.
    """

    def __init__(
        self, settings: ServerSettings, events: ReloadEvents, methods: Collection[str]
    ) -> None:
        self._settings = settings
        self._methods = methods
        self._entries: ReloadingFiles[tuple[CallerEntry, ...]] | None = None
        self._keys: ReloadingFiles[tuple[jwt.PyJWK, ...]] | None = None
        if settings.callers:
            self._entries = ReloadingFiles(
                "callers' file",
                [settings.callers],
                lambda content: read_callers(content, methods),
                events,
            )
        if settings.jwt_keys:
            self._keys = ReloadingFiles("JWT keys", [settings.jwt_keys], read_keys, events)

    def poll(self) -> None:
        """Check whether the files have changed."""
        for reloaded in (self._entries, self._keys):
            if reloaded is not None:
                reloaded.poll()

    def authenticate(self, credentials: Credentials) -> Principal:
        """Identify a caller by its token if it sent one, else by certificate, else by address.

        Raises:
            Unauthenticated: The credentials are not valid, or are missing where required.
        """
        if credentials.tokens and (self._entries or self._keys):
            return self._by_token(_bearer(credentials.tokens))
        entries = self._entries.get() if self._entries else ()
        for entry in entries:
            if entry.certificate in credentials.names:
                return self._caller(entry)
        if self._entries or self._keys:
            raise Unauthenticated(
                "the call has no credentials: send the metadata 'authorization: Bearer TOKEN', or "
                "use a client certificate that the server's callers file names"
            )
        if credentials.names:
            return self._with_default_rate(
                f"certificate {credentials.names[0]}", EVERYTHING, EVERYTHING
            )
        anyone = self._with_default_rate(f"address {credentials.address}", EVERYTHING, EVERYTHING)
        return replace(anyone, proven=False)

    def _by_token(self, token: str) -> Principal:
        digest = sha256(token.encode()).hexdigest()
        found = None
        for entry in self._entries.get() if self._entries else ():
            # Every entry, each in constant time, so that response times reveal nothing.
            if entry.sha256 and hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is not None:
            return self._caller(found)
        if self._keys is None:
            raise Unauthenticated("the token belongs to no caller of this server; use a valid one")
        return self._by_jwt(token, self._keys.get())

    def _by_jwt(self, token: str, keys: Sequence[jwt.PyJWK]) -> Principal:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            matching = [
                key for key in keys if key.key_id == kid or (kid is None and len(keys) == 1)
            ]
            if len(matching) != 1:
                raise Unauthenticated(
                    "the JWT's 'kid' matches no key of this server; sign it with one of its keys"
                )
            claims = jwt.decode(
                token,
                matching[0],
                # The key's algorithm, not the one in the token's header.
                algorithms=[matching[0].algorithm_name],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=_CLOCK_SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, RecursionError, OverflowError) as error:
            raise Unauthenticated(
                f"the token belongs to no caller and is not a valid JWT ({error}); use a valid one"
            ) from error
        scopes = read_scopes(claims, self._methods)
        caller = self._with_default_rate(f"subject {claims['sub']}", scopes.methods, scopes.models)
        return replace(caller, faults=scopes.faults)

    def _caller(self, entry: CallerEntry) -> Principal:
        defaults = self._settings
        return Principal(
            f"caller {entry.name}",
            frozenset(entry.methods),
            frozenset(entry.models),
            defaults.rate if entry.rate is None else entry.rate,
            defaults.burst if entry.burst is None else entry.burst,
        )

    def _with_default_rate(
        self, name: str, methods: frozenset[str], models: frozenset[str]
    ) -> Principal:
        return Principal(name, methods, models, self._settings.rate, self._settings.burst)


def _bearer(tokens: Sequence[str]) -> str:
    scheme, _, token = tokens[0].partition(" ")
    if len(tokens) > 1 or scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send the metadata 'authorization' once, as 'Bearer TOKEN'")
    return token


def read_callers(content: bytes, methods: Collection[str]) -> tuple[CallerEntry, ...]:
    """Read the callers' file.

    Args:
        content: Content of the file.
        methods: Short names of all methods that an entry may grant.

    Raises:
        ValueError: The content is not valid; the message quotes no secret of it.
    """
    try:
        entries = _CallersFile.model_validate_json(content).callers
    except ValidationError as error:
        raise ValueError(faults_of(error)) from None
    for key in ("name", "sha256", "certificate"):
        given = [value for entry in entries if (value := getattr(entry, key)) is not None]
        if len(set(given)) < len(given):
            raise ValueError(f"two callers have the same {key}")
    for entry in entries:
        entry.check_methods(methods)
    return entries


def read_keys(content: bytes) -> tuple[jwt.PyJWK, ...]:
    """Read a JWKS file; keys with other uses or algorithms are skipped.

    Raises:
        ValueError: The content is no key set, has no usable key, or has a secret key.
    """
    try:
        listed = json.loads(content)["keys"]
        keys = [key for key in listed if key.get("use", "sig") == "sig"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError("it is not a JSON Web Key Set") from error
    if any(key.get("kty") == "oct" or "d" in key for key in keys):
        raise ValueError("it holds a secret or private key; give public keys only")
    usable = []
    for key in keys:
        try:
            read = jwt.PyJWK(key)
        except jwt.PyJWTError:
            continue
        if read.algorithm_name in _ALGORITHMS:
            usable.append(read)
    if not usable:
        raise ValueError(f"it holds no key for any of {', '.join(sorted(_ALGORITHMS))}")
    return tuple(usable)
