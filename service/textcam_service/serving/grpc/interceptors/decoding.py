"""Messages whose bytes are no message: refused in words, whatever the method."""

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
    """Has gRPC hand on what it cannot decode, which it would answer with UNKNOWN and a traceback.

    Of methods that answer one request with a stream it takes those that write their answers
    themselves, as Health.Watch does.

    Args:
        count: Told of each refusal: method, code, reason.
    """

    def __init__(self, count: Callable[[str, grpc.StatusCode, str], None]) -> None:
        self._count = count

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Put the refusal before a method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path = handler_call_details.method

        async def refuse(error: UndecodableMessage, context: Any) -> None:
            self._count(path.rpartition("/")[2], code_of(error), reason_of(error))
            await context.abort_with_status(rpc_status.to_status(status_of(error)))

        async def one(request: Any, context: Any) -> Any:
            if isinstance(request, UndecodableMessage):
                await refuse(request, context)
            return await (handler.unary_unary or handler.unary_stream)(request, context)

        async def many(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            try:
                async with aclosing(handler.stream_stream(_sound(requests), context)) as answers:
                    async for answer in answers:
                        yield answer
            except UndecodableMessage as error:
                await refuse(error, context)

        own = {"stream_stream": many, "unary_stream": one, "unary_unary": one}
        return handler._replace(
            request_deserializer=_decoder(path, handler.request_deserializer),
            **{kind: guarded for kind, guarded in own.items() if getattr(handler, kind)},
        )


def _decoder(path: str, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Answers the error in the message's place: gRPC decodes where nobody could catch it."""

    def decoded(content: bytes) -> Any:
        try:
            return decode(content)
        except DecodeError:  # its words tell nothing of the content that helps
            kind = Default().FindMethodByName(path[1:].replace("/", ".")).input_type.full_name
            return UndecodableMessage(
                f"the bytes of the request are no {kind}: encode it by the server's contract, as "
                "its reflection service tells it"
            )

    return decoded


async def _sound(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, UndecodableMessage):
            raise request
        yield request
