"""Server reflection in both versions, v1 and v1alpha, whose messages have the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
V1_NAME = f"{_V1}.ServerReflection"
_V1_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(server: Any, names: Iterable[str]) -> None:
    """Register both versions with a server.

    Args:
        server: A grpc.aio server that is not started.
        names: Full names of the services that are listed beside them.
    """
    servicer = _Servicer((*names, reflection.SERVICE_NAME, V1_NAME))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1_NAME, handlers),))


class _Servicer(ReflectionServicer):  # type: ignore[misc] # grpc has no types
    """gRPC's servicer, which also knows v1 and sends the messages of errors' details.

    Tools that read the file of a service alone can so decode the details in its errors, which are
    of types that the service's methods do not name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        self._v1 = _v1_file()
        self._of_details = _with_dependencies(error_details_pb2.DESCRIPTOR)

    def _file_by_filename(self, request: Any, filename: str) -> Any:
        if filename == _V1_FILE:
            return self._respond_v1(request)
        return super()._file_by_filename(request, filename)

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        if fully_qualified_name.startswith(f"{_V1}."):
            alpha = fully_qualified_name.replace(_V1, _V1ALPHA, 1)
            alpha = _service_of(alpha) or alpha
            response = super()._file_containing_symbol(request, alpha)
            is_known = response.HasField("file_descriptor_response")
            return self._respond_v1(request) if is_known else response
        symbol = _service_of(fully_qualified_name) or fully_qualified_name
        response = super()._file_containing_symbol(request, symbol)
        if response.HasField("file_descriptor_response"):
            files = response.file_descriptor_response.file_descriptor_proto
            sent = set(files)
            files.extend(file for file in self._of_details if file not in sent)
        return response

    def _respond_v1(self, request: Any) -> Any:
        return reflection_pb2.ServerReflectionResponse(
            file_descriptor_response=reflection_pb2.FileDescriptorResponse(
                file_descriptor_proto=[self._v1]
            ),
            original_request=request,
        )


def _service_of(name: str) -> str:
    """Return the service of a method, which the pool finds no file for; "" for other symbols."""
    try:
        return str(Default().FindMethodByName(name).containing_service.full_name)
    except KeyError:
        return ""


def _v1_file() -> bytes:
    """Return the file of v1: v1alpha's under its own name.

    It stays out of the process's pool, where it could meet another copy.
    """
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = _V1_FILE, _V1
    file.ClearField("options")
    for message in file.message_type:
        for field in filter(lambda field: field.type_name, message.field):
            field.type_name = field.type_name.replace(f".{_V1ALPHA}.", f".{_V1}.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(f".{_V1ALPHA}.", f".{_V1}.")
            method.output_type = method.output_type.replace(f".{_V1ALPHA}.", f".{_V1}.")
    return bytes(file.SerializeToString())


def _with_dependencies(file: Any) -> list[bytes]:
    """Return the serialized file, after those that it imports."""
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        each = Default().FindFileByName(name)
        for dependency in each.dependencies:
            add(dependency.name)
        content = FileDescriptorProto()
        each.CopyToProto(content)
        found[name] = content.SerializeToString()

    add(file.name)
    return list(found.values())
