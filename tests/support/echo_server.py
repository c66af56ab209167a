"""A gRPC server on loopback with the methods of a contract, for tests of interceptors."""

from contextlib import asynccontextmanager

import grpc
from textcam.v1 import explainer_pb2 as pb

PREFIX = "/textcam.v1.ExplainerService/"


class Echo:
    """Responds with the request's id; a stream responds to each item."""

    async def Explain(self, request, context):  # noqa: N802 - the contract's name
        return pb.ExplainResponse(request_id=request.request_id)

    async def ExplainStream(self, requests, context):  # noqa: N802 - the contract's name
        async for item in requests:
            yield pb.ExplainStreamResponse(request_id=item.request.request_id)


def handlers(servicer):
    return grpc.method_handlers_generic_handler(
        PREFIX.strip("/"),
        {
            "Explain": grpc.unary_unary_rpc_method_handler(
                servicer.Explain,
                pb.ExplainRequest.FromString,
                pb.ExplainResponse.SerializeToString,
            ),
            "ExplainStream": grpc.stream_stream_rpc_method_handler(
                servicer.ExplainStream,
                pb.ExplainStreamRequest.FromString,
                pb.ExplainStreamResponse.SerializeToString,
            ),
        },
    )


@asynccontextmanager
async def served(*interceptors, servicer=None, generic=None):
    """Serve a servicer behind interceptors; yield a channel to it."""
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers((generic or handlers(servicer or Echo()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


def explain(channel):
    """Return a call of Explain that takes bytes and returns bytes."""
    return channel.unary_unary(PREFIX + "Explain")


def explain_stream(channel):
    return channel.stream_stream(PREFIX + "ExplainStream")
