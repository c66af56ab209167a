"""Interceptor that authorizes calls before their messages are read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from textcam_service.errors import AccessRefused
from textcam_service.serving.auth.authentication import Credentials
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.status import code_of, reason_of, status_of
from textcam_service.serving.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
# Probes call these without credentials; the responses say only whether the server serves.
_OPEN = (
    "/grpc.health.v1.Health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
# Their requests are a few bytes, which come with the call.
_OPEN_MESSAGE_S = 2.0
# Their images are charged one by one, when a model is authorized.
_CHARGED_BY_IMAGE = frozenset({"Explain", "ExplainStream", "ModelInfer"})
# Its messages are charged one by one, as they arrive.
_CHARGED_BY_MESSAGE = frozenset({"ServerReflectionInfo"})


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """Interceptor that authorizes every call except those of health probes.

    Each call is handled as a stream, because gRPC reads a single request before it calls a method.
    So an unknown caller cannot make the server hold a message. Of health probes only the bytes
    that arrive within two seconds are held.

    Args:
        authorizer: Decides on each call.
        metrics: Counts unexpected errors.
        count: Called with each refusal: method, code, reason.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        metrics: Metrics,
        count: Callable[[str, grpc.StatusCode, str], None],
    ) -> None:
        self._authorizer = authorizer
        self._metrics = metrics
        self._count = count

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return a handler that authorizes the call first."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            return None
        if path.startswith(_OPEN):
            return _open_handler(handler)
        method = path.rpartition("/")[2]
        at_first = int(method not in _CHARGED_BY_IMAGE | _CHARGED_BY_MESSAGE)

        async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await self._authorize(method, context, at_first)
            if method in _CHARGED_BY_MESSAGE:
                requests = self._charged(requests, method, context)
            if handler.request_streaming:
                async with aclosing(handler.stream_stream(requests, context)) as responses:
                    async for response in responses:
                        yield response
                return
            async for request in requests:
                yield await handler.unary_unary(request, context)
                return

        return grpc.stream_stream_rpc_method_handler(
            guarded, handler.request_deserializer, handler.response_serializer
        )

    async def _authorize(self, method: str, context: Any, count: int) -> None:
        if (refusal := self._refusal(method, context, count)) is not None:
            await context.abort_with_status(rpc_status.to_status(refusal))

    async def _charged(
        self, requests: AsyncIterator[Any], method: str, context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            await self._authorize(method, context, 1)
            yield request

    def _refusal(self, method: str, context: Any, count: int) -> Status | None:
        try:
            self._authorizer.authorize_call(method, _credentials(context), count)
        except Exception as error:  # noqa: BLE001 - after any error the call does not go on
            if not isinstance(error, AccessRefused):
                self._metrics.unexpected.inc()
                _log.exception("the caller of %s could not be authenticated", method)
            self._count(method, code_of(error), reason_of(error))
            return status_of(error)
        return None


def _open_handler(handler: Any) -> Any:
    """Return a handler that waits only briefly for the one request of an open method."""

    async def opened(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            request = await asyncio.wait_for(anext(aiter(requests)), _OPEN_MESSAGE_S)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            fault = f"the request did not arrive within {_OPEN_MESSAGE_S:g} s"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, fault)
        if handler.unary_stream:
            await handler.unary_stream(request, context)  # it writes its responses itself
        else:
            yield await handler.unary_unary(request, context)

    return grpc.stream_stream_rpc_method_handler(
        opened, handler.request_deserializer, handler.response_serializer
    )


def _credentials(context: Any) -> Credentials:
    """Return the credentials that a call presents."""
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
