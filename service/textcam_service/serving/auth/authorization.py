"""What callers may: methods before a message is read, models and rates for each request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from textcam_service.errors import AccessRefused, PermissionDenied, RateLimited
from textcam_service.serving.auth.authentication import Authenticator, Credentials, Principal
from textcam_service.serving.status import code_of, reason_of, status_of
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
# Probes ask these without saying who they are; the answers say only whether the server serves.
_OPEN = (
    "/grpc.health.v1.Health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
# Theirs are a few bytes, which come with the call.
_OPEN_MESSAGE_S = 2.0
# Their images are charged one by one, at the desk.
_CHARGED_BY_IMAGE = frozenset({"Explain", "ExplainStream", "ModelInfer"})
# Its messages are charged one by one, as they come.
_CHARGED_BY_MESSAGE = frozenset({"ServerReflectionInfo"})
_REMEMBERED = 10_000
_LOGGED = 100
_METHOD: ContextVar[str] = ContextVar("method")
_CREDENTIALS: ContextVar[Credentials] = ContextVar("shown")
_CALLER: ContextVar[str] = ContextVar("caller", default="")


class RateLimiter:
    """A token bucket per caller. Of callers beyond 10,000, who was away longest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def charge(self, caller: Principal, count: int) -> None:
        """Take `count` out of a caller's bucket.

        More than the bucket holds is let through where it is full, and waited for afterwards:
        otherwise a large batch could never pass.

        Raises:
            RateLimited: It holds too little; says when it will not.
        """
        if not caller.rate or not count:
            return
        now = self._clock()
        level, then = self._levels.get(caller.name, (float(caller.burst), now))
        level = min(caller.burst, level + (now - then) * caller.rate)
        missing = min(count, caller.burst) - level
        if missing > 0:
            raise RateLimited(
                f"over this caller's rate of {caller.rate:g} per second, {caller.burst} at once",
                retry_after_s=missing / caller.rate,
            )
        self._levels[caller.name] = (level - count, now)
        self._levels.move_to_end(caller.name)
        if len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)


class Authorizer:
    """Lets callers in.

    Who calls, and whether they may, is found out anew for each request: so a token or a right that
    was taken back, or has expired, ends in the middle of a stream too. A refusal costs what an
    answer does.

    Attributes:
        guards: Whether the settings ask for anything; if not, all may do all.
        limits_models: Whether callers may have rights to some models alone.

    Args:
        settings: See ServerSettings.
        metrics: Told of refusals, and of files that changed.

    Raises:
        InvalidSettings: A file of callers or keys is missing or broken.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._callers = Authenticator(settings, metrics)
        self._rates = RateLimiter()
        self._metrics = metrics
        by_token = settings.callers or settings.jwt_keys
        self.guards = bool(by_token or settings.tls_client_ca or settings.rate)
        self.limits_models = bool(by_token)
        if by_token and not settings.tls_certificate:
            _log.warning(
                "callers' tokens travel in plaintext: set tls_certificate and tls_key, or see that "
                "something before this server speaks TLS"
            )

    def look(self) -> None:
        """See whether the files of callers or keys changed."""
        self._callers.look()

    @property
    def caller(self) -> str:
        """Name of who makes the current call; "": nobody who proved it."""
        return _CALLER.get()

    def enter(self, method: str, shown: Credentials, count: int) -> None:
        """Begin a call, whose further requests are charged to who makes it.

        Args:
            method: Its name.
            shown: What it shows of who makes it.
            count: What the caller's rate is charged; at least 1 where it is refused.

        Raises:
            AccessRefused: The caller is unknown, may not call the method, or not so often.
        """
        with self._counted():
            caller = self._callers.identify(shown)
            _CALLER.set(caller.name if caller.proven else "")
            may = caller.may(caller.methods, method)
            self._rates.charge(caller, count if may else max(count, 1))
            self._require_method(caller, method)
        _METHOD.set(method)
        _CREDENTIALS.set(shown)

    def admit(self, model: str, images: int, *, named: bool = True) -> None:
        """Let a request of the current call use a model, and charge its images.

        Args:
            model: Its name.
            images: What the caller's rate is charged.
            named: Whether the request named the model; where not, nor does a refusal.

        Raises:
            AccessRefused: The caller may not use it, or not so often, may not call the method any
                more, or is unknown by now.
        """
        if not self.guards:
            return
        with self._counted():
            caller = self._callers.identify(_CREDENTIALS.get())
            self._rates.charge(caller, images)
            self._require_method(caller, _METHOD.get())
            told = f"model '{model}'" if named else "served model"
            self._require(caller, caller.models, "model", model, told)

    def shows(self, model: str) -> bool:
        """Whether the current call's caller may know of a model."""
        if not self.guards:
            return True
        try:
            caller = self._callers.identify(_CREDENTIALS.get())
        except AccessRefused:  # taken back since the call began
            return False
        return caller.may(caller.models, model)

    def _require_method(self, caller: Principal, method: str) -> None:
        self._require(caller, caller.methods, "method", method, f"method '{method}'")

    def _require(
        self, caller: Principal, names: frozenset[str], kind: str, name: str, told: str
    ) -> None:
        if not caller.may(names, name):
            _log.info("%r may not use the %s %r", caller.name, kind, name[:_LOGGED])
            raise PermissionDenied(f"this caller may not use the {told}")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except AccessRefused as error:
            self._metrics.on_denied(error.reason)
            raise


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """Stands before every method but those of health.

    Each call is taken as a stream, for gRPC reads a single request before it calls a method: so
    nobody unknown makes the server hold a message, but for what arrives of a health's in a moment.
    """

    def __init__(
        self,
        access: Authorizer,
        metrics: Metrics,
        count: Callable[[str, grpc.StatusCode, str], None],
    ) -> None:
        self._access = access
        self._metrics = metrics
        self._count = count

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Put the guard before a method."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            return None
        if path.startswith(_OPEN):
            return _opened(handler)
        method = path.rpartition("/")[2]
        at_first = int(method not in _CHARGED_BY_IMAGE | _CHARGED_BY_MESSAGE)

        async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await self._let_in(method, context, at_first)
            if method in _CHARGED_BY_MESSAGE:
                requests = self._each(requests, method, context)
            if handler.request_streaming:
                async with aclosing(handler.stream_stream(requests, context)) as answers:
                    async for answer in answers:
                        yield answer
                return
            async for request in requests:
                yield await handler.unary_unary(request, context)
                return

        return grpc.stream_stream_rpc_method_handler(
            guarded, handler.request_deserializer, handler.response_serializer
        )

    async def _let_in(self, method: str, context: Any, count: int) -> None:
        if (refusal := self._refusal(method, context, count)) is not None:
            await context.abort_with_status(rpc_status.to_status(refusal))

    async def _each(
        self, requests: AsyncIterator[Any], method: str, context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            await self._let_in(method, context, 1)
            yield request

    def _refusal(self, method: str, context: Any, count: int) -> Status | None:
        try:
            self._access.enter(method, _shown(context), count)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call does not go on
            if not isinstance(error, AccessRefused):
                self._metrics.unexpected.inc()
                _log.exception("the caller of %s could not be found out", method)
            self._count(method, code_of(error), reason_of(error))
            return status_of(error)
        return None


def _opened(handler: Any) -> Any:
    """A method of one request, which is waited for only so long."""

    async def opened(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            request = await asyncio.wait_for(anext(aiter(requests)), _OPEN_MESSAGE_S)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            said = f"the request did not arrive within {_OPEN_MESSAGE_S:g} s"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, said)
        if handler.unary_stream:
            await handler.unary_stream(request, context)  # it writes its answers itself
        else:
            yield await handler.unary_unary(request, context)

    return grpc.stream_stream_rpc_method_handler(
        opened, handler.request_deserializer, handler.response_serializer
    )


def _shown(context: Any) -> Credentials:
    certificate = context.auth_context()
    names = (
        *certificate.get("x509_common_name", ()),
        *certificate.get("x509_subject_alternative_name", ()),
    )
    tokens = [value for key, value in context.invocation_metadata() if key == "authorization"]
    return Credentials(
        tuple(tokens),
        tuple(name.decode(errors="replace") for name in names),
        context.peer().rpartition(":")[0],
    )
