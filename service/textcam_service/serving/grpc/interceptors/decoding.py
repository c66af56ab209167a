"""Interceptor that rejects undecodable messages with INVALID_ARGUMENT and a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from textcam_service.errors import UndecodableMessage
from textcam_service.serving.status import code_of, reason_of, status_of


class DecodingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """Interceptor that rejects undecodable messages.

    Without it gRPC responds with UNKNOWN and logs a traceback. Of methods with one request and a
    stream of responses it supports those that write their responses themselves, such as
    Health.Watch.

    Args:
        count: Called with each refusal: method, code, reason.
    """

    def __init__(self, count: Callable[[str, grpc.StatusCode, str], None]) -> None:
        self._count = count

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return a handler that rejects undecodable messages first."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path = handler_call_details.method

        async def reject(error: UndecodableMessage, context: Any) -> None:
            self._count(path.rpartition("/")[2], code_of(error), reason_of(error))
            await context.abort_with_status(rpc_status.to_status(status_of(error)))

        async def unary(request: Any, context: Any) -> Any:
            if isinstance(request, UndecodableMessage):
                await reject(request, context)
            return await (handler.unary_unary or handler.unary_stream)(request, context)

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            try:
                async with aclosing(
                    handler.stream_stream(_decoded(requests), context)
                ) as responses:
                    async for response in responses:
                        yield response
            except UndecodableMessage as error:
                await reject(error, context)

        guarded = {"stream_stream": stream, "unary_stream": unary, "unary_unary": unary}
        return handler._replace(
            request_deserializer=_decoder(path, handler.request_deserializer),
            **{kind: method for kind, method in guarded.items() if getattr(handler, kind)},
        )


def _decoder(path: str, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a decoder that returns an error instead of raising it.

    gRPC decodes requests where no handler could catch the error.
    """

    def decode_or_error(content: bytes) -> Any:
        try:
            return decode(content)
        except DecodeError:  # its message says nothing useful about the content
            return UndecodableMessage(
                f"the request's bytes are not a valid {_kind(path)}; encode it by the server's "
                "contract, which its reflection service describes"
            )

    return decode_or_error


def _kind(path: str) -> str:
    """Return the full name of a method's request; for reflection v1, that of v1alpha."""
    name = path[1:].replace("/", ".").replace("reflection.v1.", "reflection.v1alpha.")
    kind: str = Default().FindMethodByName(name).input_type.full_name
    return kind


async def _decoded(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, UndecodableMessage):
            raise request
        yield request
