"""Three replicas on ports of their own, one of which is ended and started again by turns."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fault_processes import Served, free_port, start, until
from fault_world import World

HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
frontend textcam
  bind 127.0.0.1:{port} proto h2
  default_backend replicas
backend replicas
  balance leastconn
{servers}
"""


class Replicas:
    """Servers of one bundle."""

    def __init__(self, world: World, count: int) -> None:
        self.ended = 0
        self._world = world
        self.ports = [free_port() for _ in range(count)]
        with ThreadPoolExecutor() as threads:
            self._servers = list(threads.map(self._start, self.ports))

    @property
    def address(self) -> str:
        """A gRPC target that names all of them."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def _start(self, port: int) -> Served:
        return start(self._world, port=port)

    async def end_by_turns(self, number: signal.Signals, times: int, pause: float) -> None:
        """End one by a signal, start it again, wait; and so on round."""
        for turn in range(times):
            place = turn % len(self._servers)
            self._servers[place].process.send_signal(number)
            await asyncio.to_thread(self._servers[place].process.wait)
            self.ended += 1
            restarted = asyncio.to_thread(self._start, self.ports[place])
            self._servers[place], _ = await asyncio.gather(restarted, asyncio.sleep(pause))

    def close(self) -> None:
        for server in self._servers:
            server.process.kill()
            server.process.wait()


@contextlib.contextmanager
def replicas(world: World, count: int = 3) -> Iterator[Replicas]:
    made = Replicas(world, count)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def haproxy(ports: list[int], folder: Path) -> Iterator[str]:
    """The address of a proxy before servers on these ports, by HTTP/2 from end to end."""
    port = free_port()
    servers = "\n".join(
        f"  server s{place} 127.0.0.1:{own} proto h2 check inter 200ms fall 1 rise 1"
        for place, own in enumerate(ports)
    )
    with haproxy_with(HAPROXY.format(port=port, servers=servers), port, folder):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def haproxy_with(config: str, port: int, folder: Path) -> Iterator[None]:
    """A proxy of this configuration, which binds the port."""
    path = folder / "haproxy.cfg"
    path.write_text(config)
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", str(path)]) as process:
        try:
            until(lambda: listens(port), 10, "haproxy listens")
            yield
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
