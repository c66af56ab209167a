"""Reflection in both versions, with the messages of errors' details."""

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from textcam_service.serving.grpc.contract import EXPLAINER
from textcam_service.serving.grpc.interceptors.decoding import DecodingInterceptor
from textcam_service.serving.grpc.reflection import V1_NAME, add_reflection

V1ALPHA_NAME = "grpc.reflection.v1alpha.ServerReflection"


async def answers(service, *requests):
    """What a server says to questions, as bytes or messages, by one version of the service."""
    server = grpc.aio.server(interceptors=[DecodingInterceptor(lambda *_: None)])
    add_reflection(server, [EXPLAINER])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            asked = [
                each if isinstance(each, bytes) else each.SerializeToString() for each in requests
            ]
            call = channel.stream_stream(f"/{service}/ServerReflectionInfo")(iter(asked))
            return [ServerReflectionResponse.FromString(each) async for each in call]
    finally:
        await server.stop(None)


def pool_of(response):
    """A pool of the files in a response alone, each after those that it imports."""
    contents = response.file_descriptor_response.file_descriptor_proto
    files = {file.name: file for file in map(FileDescriptorProto.FromString, contents)}
    assert len(files) == len(contents)
    pool = DescriptorPool()

    def add(name):
        if (file := files.pop(name, None)) is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.AddSerializedFile(file.SerializeToString())

    for name in list(files):
        add(name)
    return pool


@pytest.mark.parametrize("service", [V1_NAME, V1ALPHA_NAME])
async def test_both_versions_list_all_services(service):
    (listed,) = await answers(service, ServerReflectionRequest(list_services=""))
    names = {each.name for each in listed.list_services_response.service}
    assert names == {EXPLAINER, V1_NAME, V1ALPHA_NAME}


@pytest.mark.parametrize("service", [V1_NAME, V1ALPHA_NAME])
@pytest.mark.parametrize("symbol", [EXPLAINER, f"{EXPLAINER}.Explain"])
async def test_the_files_of_a_service_hold_the_details_of_its_errors(service, symbol):
    (found,) = await answers(service, ServerReflectionRequest(file_containing_symbol=symbol))
    pool = pool_of(found)
    assert pool.FindServiceByName(EXPLAINER).methods_by_name["Explain"]
    for name in ("ErrorInfo", "BadRequest", "RetryInfo"):
        assert pool.FindMessageTypeByName(f"google.rpc.{name}")


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_by_filename="grpc/reflection/v1/reflection.proto"),
        ServerReflectionRequest(file_containing_symbol=V1_NAME),
        ServerReflectionRequest(file_containing_symbol="grpc.reflection.v1.ErrorResponse"),
        ServerReflectionRequest(file_containing_symbol=f"{V1_NAME}.ServerReflectionInfo"),
    ],
)
async def test_v1_describes_itself(request_):
    (found,) = await answers(V1_NAME, request_)
    (method,) = pool_of(found).FindServiceByName(V1_NAME).methods
    assert method.input_type.full_name == "grpc.reflection.v1.ServerReflectionRequest"
    assert method.output_type.fields_by_name["error_response"].message_type.file.package == (
        "grpc.reflection.v1"
    )


async def test_what_is_not_there_is_not_found():
    asked = [
        ServerReflectionRequest(file_containing_symbol=name)
        for name in ("grpc.reflection.v1.Nothing", "textcam.v1.Nothing")
    ]
    found = await answers(V1_NAME, *asked)
    assert [each.error_response.error_code for each in found] == [5, 5]


@pytest.mark.parametrize("service", [V1_NAME, V1ALPHA_NAME])
async def test_an_undecodable_question_is_rejected(service):
    with pytest.raises(grpc.aio.AioRpcError, match=r"not a valid grpc\.reflection") as refused:
        await answers(service, b"\xff\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
