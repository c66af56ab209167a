"""Real processes on loopback: servers, a proxy, and what can be read off them from outside."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
from fault_world import World
from prometheus_client.parser import text_string_to_metric_families

TEXTCAM = str(Path(sys.executable).with_name("textcam"))


@dataclass
class Served:
    """A `textcam serve` of its own process."""

    process: subprocess.Popen[str]
    port: int
    metrics_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def metric(self, name: str, **labels: str) -> float:
        return read_metric(self.metrics_port, name, **labels)

    def resident_mib(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def connections(self) -> int:
        """Established TCP connections to the gRPC port."""
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(
            one.laddr.port == self.port and one.status == psutil.CONN_ESTABLISHED for one in found
        )


def read_metric(port: int, name: str, **labels: str) -> float:
    """A sample's value, summed over the labels that are left open; 0 where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def start(world: World, *flags: str, env: dict[str, str] | None = None, port: int = 0) -> Served:
    """Start a server and wait until it serves."""
    command = [TEXTCAM, "serve", *world.flags, "--port", str(port), "--metrics-port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    ready, _, _ = select.select([process.stdout], [], [], 60)
    line = process.stdout.readline() if ready else ""
    found = re.search(r":(\d+), metrics on (\d+)", line)
    if not found:
        process.kill()
        raise AssertionError(f"the server did not start: {line!r}")
    return Served(process, *map(int, found.groups()))


@contextmanager
def serving(world: World, *flags: str, env: dict[str, str] | None = None) -> Iterator[Served]:
    """A server for the length of a block; it must still be alive at its end, or have drained."""
    served = start(world, *flags, env=env)
    try:
        yield served
        assert served.process.poll() in (None, 0), "the server died"
    finally:
        served.process.terminate()
        try:
            served.process.wait(30)
        except subprocess.TimeoutExpired:
            served.process.kill()
            raise


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for a condition; the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started


class Memory:
    """A server's resident memory over a long run, the first tenth of which is warm-up."""

    def __init__(self, served: Served, wanted: int) -> None:
        self._process, self._wanted = psutil.Process(served.process.pid), wanted
        self._seen: list[tuple[float, float]] = []

    def look(self, done: int) -> None:
        """Note the memory after `done` of the wanted requests."""
        self._seen.append((done / self._wanted, self._process.memory_info().rss / 2**20))

    def figures(self) -> dict[str, object]:
        """Medians of MiB over each tenth; the growth from the second to the last, and its trend.

        A leak grows in every tenth. The largest work so far leaves its mark in one, and onnxruntime
        and malloc keep it: the trend is the median growth of a tenth, over as many of them.
        """
        tenths: list[list[float]] = [[] for _ in range(10)]
        for part, mib in self._seen:
            tenths[min(int(part * 10), 9)].append(mib)
        medians = [round(median(tenth), 1) for tenth in tenths]
        steps = [after - before for before, after in pairwise(medians[1:])]
        return {
            "MiB by tenth": medians,
            "growth %": round(100 * (medians[-1] / medians[1] - 1), 2),
            "trend %": round(100 * len(steps) * median(steps) / medians[1], 2),
        }
