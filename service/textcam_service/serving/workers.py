"""Several server processes on one port, for CPUs: each with its own session, loop and threads.

The kernel deals connections out among the processes that listen (SO_REUSEPORT). The processes are
spawned, not forked, and import grpc by themselves. Their metrics add up: the parent serves them.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Info
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from textcam_service.errors import InvalidSettings, TextCamError
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.serving.telemetry.logs import set_up_logs
from textcam_service.serving.telemetry.metrics import describe, publish, worker_restarts
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_SPAWN = multiprocessing.get_context("spawn")
_RESTART_PAUSE_S = 1.0
_LOOK_S = 0.5  # a signal is seen so soon
_EOF_PAUSE_S = 0.05
# A worker says the digests of what it serves, by model, or why it cannot; and again at a switch.
_Digests: TypeAlias = "dict[str, dict[str, str]]"
_Words: TypeAlias = "_Digests | str"
# Told the ports of gRPC, of the metrics and of health; None: there is none.
Announce: TypeAlias = "Callable[[int, int | None, int | None], None]"


@dataclass(frozen=True)
class _Worker:
    """A process and the pipe by which it tells that it serves, and learns that the parent is."""

    process: SpawnProcess
    pipe: Connection

    def words(self) -> _Digests | None:
        """What it says it serves by now; why it cannot goes to the log."""
        try:
            said: _Words = self.pipe.recv()
        except (EOFError, OSError):
            time.sleep(_EOF_PAUSE_S)  # it is about to end
            return None
        if isinstance(said, str):
            _log.error("worker %d cannot serve: %s", self.process.pid, said)
            return None
        return said

    def stop(self, patience_s: float) -> None:
        """Let it drain; kill it where it does not."""
        self.process.join(patience_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def serve_workers(settings: ServerSettings, announce: Announce) -> None:
    """Serve by several processes until SIGTERM or SIGINT, then drain them.

    Args:
        settings: See ServerSettings; `workers` of them.
        announce: Told the ports, once all workers serve.

    Raises:
        InvalidSettings: A port is taken, or a worker cannot start.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    with (
        TemporaryDirectory(prefix="textcam-metrics-") as folder,
        _reserved(settings, settings.port) as port,
        _reserved(settings, settings.health_port) as health_port,
    ):
        # Here, not at import: the parent's own counters stay in its memory.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        restarts = worker_restarts(registry)
        bundles = describe(registry)
        share = max(1, usable_cpus() // settings.workers)
        own = settings.model_copy(
            update={
                "port": port,
                "metrics_port": -1,
                "health_port": health_port,
                "session_threads": settings.session_threads or share,
                "decode_threads": settings.decode_threads or share,
            }
        )
        workers = [_start(own) for _ in range(settings.workers)]
        stop_metrics: Callable[[], None] = lambda: None  # noqa: E731 - until there are any
        try:
            for worker in workers:
                _tell(bundles, _await_ready(worker, stopping))
            if not stopping:
                metrics_port, stop_metrics = publish(registry, settings)
                announce(port, metrics_port, None if health_port < 0 else health_port)
            while not stopping:
                # A signal ends the wait too.
                ended = [worker.process.sentinel for worker in workers]
                dead = wait([*ended, *(worker.pipe for worker in workers)], timeout=_LOOK_S)
                for place, worker in enumerate(workers):
                    if worker.pipe in dead and (words := worker.words()):
                        _tell(bundles, words)
                    if worker.process.sentinel in dead and not stopping:
                        workers[place] = _restart(worker, own, restarts)
        finally:
            for worker in workers:
                worker.process.terminate()
            for worker in workers:
                worker.stop(settings.drain_seconds + 10)
            stop_metrics()


def _tell(bundles: Info, digests: _Digests) -> None:
    for name, labels in digests.items():
        bundles.labels(name).info(labels)


def _restart(worker: _Worker, settings: ServerSettings, restarts: Any) -> _Worker:
    _log.error("worker %d ended with %s", worker.process.pid, worker.process.exitcode)
    worker.pipe.close()
    mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
    restarts.inc()
    time.sleep(_RESTART_PAUSE_S)  # one that cannot live must not use up the machine
    return _start(settings, joins=True)


def _start(settings: ServerSettings, joins: bool = False) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(settings, theirs, joins), name="textcam-worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _await_ready(worker: _Worker, stopping: list[int]) -> _Digests:
    """What a worker says once it serves; nothing where all are to stop before."""
    while not stopping and not worker.pipe.poll(_LOOK_S):
        pass
    if stopping:
        return {}
    try:
        said: _Words = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        said = f"it ended with status {worker.process.exitcode}"
    if isinstance(said, str):
        raise InvalidSettings(f"a worker cannot serve: {said}")
    return said


def _work(settings: ServerSettings, pipe: Connection, joins: bool) -> None:
    """One worker's life; `joins`: the others serve already."""
    from textcam_service.serving.server import serve  # noqa: PLC0415 - grpc, in this process only

    set_up_logs(settings, by_process=True)
    serving = False

    def announce(server: Any) -> None:
        nonlocal serving
        serving = True
        pipe.send(server.digests)

    def switched(digests: _Digests) -> None:
        if serving:  # the first words are for the whole
            pipe.send(digests)

    try:
        asyncio.run(serve(settings, announce, pipe, switched, joins))
    except TextCamError as error:
        pipe.send(str(error))
        raise SystemExit(1) from error


@contextmanager
def _reserved(settings: ServerSettings, port: int) -> Iterator[int]:
    """Hold the port for the workers, who share it; nobody else may be on it. -1 is none."""
    if port < 0:
        yield port
        return
    address = (settings.host, port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as alone, socket.socket(family) as shared:
        try:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = (settings.host, alone.getsockname()[1])
            alone.close()
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(address)
        except OSError as error:
            where = settings.address(port)
            raise InvalidSettings(f"cannot listen on {where}: {error.strerror}") from error
        yield address[1]
