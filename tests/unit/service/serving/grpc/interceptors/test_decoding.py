"""Undecodable messages are rejected with a message and counted."""

import grpc
import pytest
from echo_server import explain, explain_stream, served
from textcam.v1 import explainer_pb2 as pb
from textcam_service.serving.grpc.interceptors.decoding import DecodingInterceptor

GARBAGE = b"\xff\xff\xff"
SOUND = pb.ExplainRequest(request_id="a").SerializeToString()


async def test_a_sound_request_passes():
    counted = []
    async with served(DecodingInterceptor(lambda *refusal: counted.append(refusal))) as channel:
        response = pb.ExplainResponse.FromString(await explain(channel)(SOUND))
    assert (response.request_id, counted) == ("a", [])


async def test_an_undecodable_request_is_rejected_by_the_name_of_its_message():
    counted = []
    async with served(DecodingInterceptor(lambda *refusal: counted.append(refusal))) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await explain(channel)(GARBAGE)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a valid textcam.v1.ExplainRequest; encode it" in refused.value.details()
    assert counted == [("Explain", grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE_MESSAGE")]


async def test_a_stream_ends_at_its_undecodable_item():
    counted = []
    item = pb.ExplainStreamRequest(request=pb.ExplainRequest(request_id="a"))
    async with served(DecodingInterceptor(lambda *refusal: counted.append(refusal))) as channel:
        stream = explain_stream(channel)()
        await stream.write(item.SerializeToString())
        assert pb.ExplainStreamResponse.FromString(await stream.read()).request_id == "a"
        await stream.write(GARBAGE)
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"not a valid textcam\.v1\.ExplainStreamReq"
        ):
            await stream.read()
    assert [method for method, *_ in counted] == ["ExplainStream"]
