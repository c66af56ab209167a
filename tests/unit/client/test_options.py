"""Options of the client."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from authority import Authority
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from textcam_client import Tls
from textcam_client.options import channel_options
from textcam_client.options import settings as client_settings


def test_the_client_shows_no_secret_of_its_own():
    tls = Tls(b"root", b"private key", b"chain")
    made = client_settings(
        "x:1",
        model=None,
        version=None,
        timeout=1,
        retry=None,
        tls=tls,
        metadata={"authorization": "Bearer textcam_secret"},
        max_message_bytes=1,
        channel=None,
    )
    assert "private key" not in repr(made)
    assert "textcam_secret" not in repr(made)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda pem: b"\xef\xbb\xbf" + pem, "byte-order mark"),
        (lambda pem: b"\xef\xbb\xbf" + pem + pem, "byte-order mark"),
        (lambda pem: b" " + pem, "no line that begins with"),
        (lambda pem: b"0\x82", "no line that begins with"),
    ],
)
def test_pem_that_grpc_cannot_read_is_refused(tmp_path, spoil, fault):
    """gRPC itself would take it and reach no server."""
    (tmp_path / "ca.crt").write_bytes(spoil(Authority("a").certificate))
    with pytest.raises(ValueError, match=rf"Tls\(root_certificates=...\) .*{fault}"):
        Tls(tmp_path / "ca.crt").credentials()


def test_a_new_channel_does_not_wait_with_one_that_could_not_connect():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    older, newer = (grpc.insecure_channel(address, channel_options(2**20)) for _ in range(2))
    for _ in range(12):  # so that its pauses between attempts grow to seconds
        assert _asked(older) is grpc.StatusCode.UNAVAILABLE
        time.sleep(0.2)
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        server.add_insecure_port(address)
        server.start()
        assert _asked(newer) is grpc.StatusCode.OK
        server.stop(None)
    older.close()
    newer.close()


def _asked(channel):
    """Status of a call."""
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
