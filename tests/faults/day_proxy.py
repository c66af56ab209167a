"""haproxy in front of pods: it follows the endpoints, and asks each pod for its health by gRPC."""

from __future__ import annotations

import csv
import io
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from day_pods import Pod
from fault_processes import free_port
from fault_replicas import haproxy_with
from grpc_health.v1 import health_pb2

SLOTS = 12
# Round robin, as the guide's callers do without a proxy. A call to a server that is found dead
# ends then and there, and its caller tries another.
CONFIG = """
global
  stats socket {admin} level admin
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout check {timeout}s
  retries 3
  option redispatch
frontend textcam
  bind 127.0.0.1:{port} proto h2
  default_backend pods
backend pods
  balance roundrobin
  option tcp-check
  tcp-check connect
  tcp-check send-binary {question}
  tcp-check expect binary {answer}
  default-server proto h2 check inter 1s fall {fall} rise 1 on-marked-down shutdown-sessions
{servers}
"""


class Proxy:
    """A running haproxy with a slot for each pod that will ever be."""

    def __init__(self, port: int, admin: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self._admin = admin

    def follow(self, pod: Pod) -> None:
        """Send calls to a pod that became ready, and no new ones to one that is so no more."""
        server = f"pods/pod{pod.number}"
        if pod.ready:
            port = pod.release.port("grpc")
            said = self._tell(f"set server {server} addr {pod.address} port {port}")
            assert "changed" in said or "no need to change" in said, said
        state = "ready" if pod.ready else "maint" if pod.gone else "drain"
        assert (said := self._tell(f"set server {server} state {state}")) == "", said

    def health(self, pod: Pod) -> str:
        """What its own check says: "UP", "DOWN" ..."""
        rows = csv.DictReader(io.StringIO(self._tell("show stat").removeprefix("# ")))
        (found,) = (row for row in rows if row["svname"] == f"pod{pod.number}")
        return found["status"]

    def _tell(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._admin))
            admin.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: admin.recv(1 << 16), b"")).decode().strip()


@contextmanager
def proxy(readiness: dict[str, Any], folder: Path) -> Iterator[Proxy]:
    """A proxy whose check is the manifest's readiness probe."""
    port, admin = free_port(), folder / "haproxy.sock"
    config = CONFIG.format(
        admin=admin,
        port=port,
        timeout=readiness["timeoutSeconds"],
        fall=readiness["failureThreshold"],
        question=question(readiness["grpc"]["service"]).hex(),
        answer=message(health_pb2.HealthCheckResponse(status="SERVING")).hex(),
        servers="\n".join(f"  server pod{n} 127.0.0.1:1 disabled" for n in range(1, SLOTS)),
    )
    with haproxy_with(config, port, folder):
        yield Proxy(port, admin)


def message(value: Any) -> bytes:
    """A message as gRPC frames it."""
    encoded = bytes(value.SerializeToString())
    return struct.pack(">BI", 0, len(encoded)) + encoded


def question(service: str) -> bytes:
    """The bytes of a whole health call, HTTP/2 (RFC 9113) from the preface on.

    haproxy 2.6 cannot put the zero bytes of a gRPC message into a check of its own HTTP.
    """
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": "haproxy",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # HPACK (RFC 7541, 6.2.2): literals, not indexed, not compressed; all under 127 bytes.
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    body = message(health_pb2.HealthCheckRequest(service=service))
    settings, whole = _frame(4, 0, 0, b""), _frame(1, 4, 1, block) + _frame(0, 1, 1, body)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + whole


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
