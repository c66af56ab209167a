"""Authorization of callers: methods before a message is read, models and rates per request."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from textcam_service.errors import AccessRefused, PermissionDenied
from textcam_service.serving.auth.authentication import Authenticator, Credentials, Principal
from textcam_service.serving.auth.rate_limits import RateLimiter
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_LOGGED = 100  # characters of a refused name
_FAULTS = 5  # of a token's scopes
_METHOD: ContextVar[str] = ContextVar("method")
_CREDENTIALS: ContextVar[Credentials] = ContextVar("credentials")
_CALLER: ContextVar[str] = ContextVar("caller", default="")


class Authorizer:
    """Authorization of calls and of the requests in them.

    Caller and rights are looked up anew for each request. So a token or a right that was revoked,
    or has expired, also ends within an open stream. A rejected request is charged like an accepted
    one.

    Attributes:
        guards: Whether the settings restrict access; if not, all callers have all rights.
        limits_models: Whether callers may have rights to some models only.

    Args:
        settings: See ServerSettings.
        metrics: Counts refusals and reloaded files.
        methods: Short names of all gRPC methods that the callers' file may grant.

    Raises:
        InvalidSettings: A file of callers or keys is missing or broken.
    """

    def __init__(
        self, settings: ServerSettings, metrics: Metrics, methods: Collection[str]
    ) -> None:
        self._authenticator = Authenticator(settings, metrics, methods)
        self._rates = RateLimiter()
        self._metrics = metrics
        by_token = settings.callers or settings.jwt_keys
        self.guards = bool(by_token or settings.tls_client_ca or settings.rate)
        self.limits_models = bool(by_token)
        if by_token and not settings.tls_certificate:
            _log.warning(
                "callers' tokens travel in plaintext: set tls_certificate and tls_key, or let a "
                "proxy in front of this server terminate TLS"
            )

    def poll(self) -> None:
        """Check whether the files of callers or keys have changed."""
        self._authenticator.poll()

    @property
    def caller(self) -> str:
        """Name of the current call's caller; empty if it is not authenticated."""
        return _CALLER.get()

    def authorize_call(self, method: str, credentials: Credentials, count: int) -> None:
        """Authorize a call; its further requests use the same credentials.

        Args:
            method: Short name of the method.
            credentials: Credentials of the call.
            count: Charged to the caller's rate; a refused call is charged at least 1.

        Raises:
            AccessRefused: The caller is unknown, has no right to the method, or is over its rate.
        """
        with self._counted():
            caller = self._authenticator.authenticate(credentials)
            _CALLER.set(caller.name if caller.proven else "")
            is_allowed = caller.is_allowed(caller.methods, method)
            self._rates.charge(caller, count if is_allowed else max(count, 1))
            self._require_method(caller, method)
        _METHOD.set(method)
        _CREDENTIALS.set(credentials)

    def authorize_model(self, model: str, images: int, *, named: bool = True) -> None:
        """Authorize the current call's request for a model, and charge its images.

        Args:
            model: Name of the model.
            images: Charged to the caller's rate.
            named: Whether the request named the model; if not, a refusal does not name it either.

        Raises:
            AccessRefused: The caller has no right to the model, is over its rate, or has lost its
                right to the method or its credentials.
        """
        if not self.guards:
            return
        with self._counted():
            caller = self._authenticator.authenticate(_CREDENTIALS.get())
            self._rates.charge(caller, images)
            self._require_method(caller, _METHOD.get())
            label = f"model '{model}'" if named else "served model"
            self._require(caller, caller.models, "model", model, label)

    def can_see(self, model: str) -> bool:
        """Return True if the current call's caller may know that a model exists."""
        if not self.guards:
            return True
        try:
            caller = self._authenticator.authenticate(_CREDENTIALS.get())
        except AccessRefused:  # revoked since the call began
            return False
        return caller.is_allowed(caller.models, model)

    def _require_method(self, caller: Principal, method: str) -> None:
        self._require(caller, caller.methods, "method", method, f"method '{method}'")

    def _require(
        self, caller: Principal, granted: frozenset[str], kind: str, name: str, label: str
    ) -> None:
        if not caller.is_allowed(granted, name):
            why = f"; its token: {'; '.join(caller.faults[:_FAULTS])}" if caller.faults else ""
            _log.info("%r may not use the %s %r%s", caller.name, kind, name[:_LOGGED], why)
            raise PermissionDenied(
                f"this caller has no right to the {label}; ask the operator to grant it"
            )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except AccessRefused as error:
            self._metrics.on_denied(error.reason)
            raise
