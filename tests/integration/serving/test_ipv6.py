"""Servers that listen on IPv6: gRPC, health and metrics, by one process and by several."""

import socket
import subprocess
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import TEXTCAM, running
from small_models import write_model


def has_loopback():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not has_loopback(), reason="NOT TESTED: IPv6, for this machine has no ::1"
)


@pytest.mark.parametrize(
    ("host", "workers", "announced"),
    [("::1", 1, "[::1]"), ("[::1]", 2, "[::1]"), ("::", 2, "[::]")],
)
def test_it_listens_there_with_all_ports(tmp_path, host, workers, announced):
    made = write_model(tmp_path, 0)
    flags = {
        "backbone": made / "backbone",
        "bank": made / "bank",
        "host": host,
        "workers": workers,
        "health-port": 0,
    }
    with running(*(f"--{name}={value}" for name, value in flags.items())) as started:
        for address in (started.address, started.health):
            where, _, port = address.rpartition(":")
            assert where == announced
            with grpc.insecure_channel(f"[::1]:{port}") as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=20
                )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with urllib.request.urlopen(started.metrics.replace("[::]", "[::1]")) as page:
            assert b"textcam_build_info" in page.read()


def test_a_port_that_is_taken_is_named_with_the_address(tmp_path):
    made = write_model(tmp_path, 0)
    bundle = [f"--backbone={made / 'backbone'}", f"--bank={made / 'bank'}"]
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [TEXTCAM, "serve", *bundle, "--host=::1", f"--port={port}", "--metrics-port=-1"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert f"cannot listen on [::1]:{port}" in ended.stderr
