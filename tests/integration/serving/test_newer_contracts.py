"""A server beside a newer grpcio-health-checking than is pinned: its contract may have more.

The contract here is that of 1.85, which brought List, and one method that nobody knows yet.
"""

import os
import subprocess
import sys

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from known import entry, write_callers
from processes import running
from small_models import write_model

CONTRACT = """
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
message HealthListRequest {}
message HealthListResponse { map<string, HealthCheckResponse> statuses = 1; }
service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
  rpc List(HealthListRequest) returns (HealthListResponse);
  rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
  rpc Forecast(HealthCheckRequest) returns (stream HealthCheckResponse);
}
"""
SERVICES = {"", "inference.GRPCInferenceService", "textcam.v1.ExplainerService"}
# More services than any server here could have models for within seconds.
CROWD = """
import asyncio, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from textcam_service.serving.grpc.health import Health

async def main():
    health = Health()
    server = grpc.aio.server()
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for number in range(99):
            health.set(f"s{number}", True)
        print(len((await stub.List(health_pb2.HealthListRequest())).statuses))
        health.set("one more", True)
        try:
            await stub.List(health_pb2.HealthListRequest())
        except grpc.aio.AioRpcError as error:
            print(error.code().name, error.details())
    await server.stop(None)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """A folder with a package grpc_health of the newer contract."""
    folder = tmp_path_factory.mktemp("newer")
    package = folder / "grpc_health" / "v1"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").touch()
    (package / "health.proto").write_text(CONTRACT)
    outputs = (
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--descriptor_set_out={folder / 'contract'}",
    )
    assert protoc.main(["protoc", f"-I{folder}", *outputs, str(package / "health.proto")]) == 0
    return folder


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    made = write_model(tmp_path_factory.mktemp("model"), 0)
    return ("--backbone", str(made / "backbone"), "--bank", str(made / "bank"), "--name", "ash")


@pytest.fixture
def list_class(newer):
    """The message that List answers; the test's own process has the older contract."""
    described = descriptor_pb2.FileDescriptorSet.FromString((newer / "contract").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    found = pool.FindMessageTypeByName("grpc.health.v1.HealthListResponse")
    return message_factory.GetMessageClass(found)


def ask(address, method):
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(f"/grpc.health.v1.Health/{method}")(b"", timeout=20)


def serving(answer):
    assert all(one.status == 1 for one in answer.statuses.values())
    return set(answer.statuses)


def test_health_lists_its_services_and_of_methods_unknown_here_says_so(
    newer, flags, list_class, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(newer))
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        running(*flags, "--health-port", "0", stderr=stderr) as started,
    ):
        for address in (started.address, started.health):
            listed = list_class.FromString(ask(address, "List"))
            assert serving(listed) == SERVICES | {"textcam.model/ash"}
            with pytest.raises(grpc.RpcError) as refused:
                ask(address, "Forecast")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Traceback" not in log.read_text()


def test_the_list_is_open_to_all_and_names_no_model_where_callers_have_rights(
    newer, flags, list_class, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(newer))
    write_callers(tmp_path / "callers.json", [entry("known", "known" * 20)])
    with running(*flags, "--callers", str(tmp_path / "callers.json")) as started:
        assert serving(list_class.FromString(ask(started.address, "List"))) == SERVICES
        with pytest.raises(grpc.RpcError) as refused:
            ask(started.address, "Forecast")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_list_of_more_than_a_hundred_is_refused(newer):
    paths = os.pathsep.join([str(newer), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", CROWD],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.splitlines() == [
        "100",
        "RESOURCE_EXHAUSTED 101 services have a health, and a list holds at most 100; use Check",
    ], done.stderr
