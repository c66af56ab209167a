"""Several server processes on one port, for CPUs: each with its own session, loop and threads.

The kernel distributes connections among the listening processes (SO_REUSEPORT). The processes are
spawned, not forked, and import grpc themselves. Their metrics add up, and the parent serves them.
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

from prometheus_client import CollectorRegistry, Counter, Info
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from textcam_service.errors import InvalidSettings, TextCamError
from textcam_service.runtime.cpus import usable_cpus
from textcam_service.serving.telemetry.exposition import describe, publish, worker_restarts
from textcam_service.serving.telemetry.logs import set_up_logs
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_SPAWN = multiprocessing.get_context("spawn")
_RESTART_PAUSE_S = 1.0
_POLL_S = 0.5  # a signal is handled within this time
_EOF_PAUSE_S = 0.05
# Labels that identify each served bundle, by model.
_Digests: TypeAlias = "dict[str, dict[str, str]]"
# A worker's message: what it serves, at the start and after each switch, or why it cannot.
_Message: TypeAlias = "_Digests | str"
OnServing: TypeAlias = "Callable[[int, int | None, int | None], None]"
"""Called with the ports of gRPC, metrics and health; None for a disabled one."""


@dataclass(frozen=True)
class _Worker:
    """A worker process and the pipe to it.

    The worker reports through the pipe; when the pipe closes, it knows that its parent is gone.
    """

    process: SpawnProcess
    pipe: Connection

    def receive(self) -> _Digests | None:
        """Receive the served bundles; log a failure instead, and return None."""
        try:
            message: _Message = self.pipe.recv()
        except (EOFError, OSError):
            time.sleep(_EOF_PAUSE_S)  # it is about to end
            return None
        if isinstance(message, str):
            _log.error("worker %d cannot serve: %s", self.process.pid, message)
            return None
        return message

    def stop(self, patience_s: float) -> None:
        """Wait for the process to end; kill it after `patience_s` seconds."""
        self.process.join(patience_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def serve_workers(settings: ServerSettings, on_serving: OnServing) -> None:
    """Serve with several processes until SIGTERM or SIGINT, then drain them.

    Args:
        settings: See ServerSettings; `workers` is the number of processes.
        on_serving: Called with the ports once all workers serve.

    Raises:
        InvalidSettings: A port is in use, or a worker cannot start.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    with (
        TemporaryDirectory(prefix="textcam-metrics-") as folder,
        _reserved(settings, settings.port) as port,
        _reserved(settings, settings.health_port) as health_port,
    ):
        # Set here, not at import: the parent's own counters stay in its memory.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        restarts = worker_restarts(registry)
        bundles = describe(registry)
        own = worker_settings(settings, port, health_port)
        workers = [_start(own) for _ in range(settings.workers)]
        stop_metrics: Callable[[], None] = lambda: None  # noqa: E731 - until they are published
        try:
            for worker in workers:
                _publish_bundles(bundles, _await_ready(worker, stopping))
            if not stopping:
                metrics_port, stop_metrics = publish(registry, settings)
                on_serving(port, metrics_port, None if health_port < 0 else health_port)
            while not stopping:
                _supervise(workers, own, bundles, restarts, stopping)
        finally:
            for worker in workers:
                worker.process.terminate()
            for worker in workers:
                worker.stop(settings.drain_seconds + 10)
            stop_metrics()


def worker_settings(settings: ServerSettings, port: int, health_port: int) -> ServerSettings:
    """Return a worker's settings: the shared ports, no metrics port, and its share of the CPUs."""
    share = max(1, usable_cpus() // settings.workers)
    return settings.model_copy(
        update={
            "port": port,
            "metrics_port": -1,
            "health_port": health_port,
            "session_threads": settings.session_threads or share,
            "decode_threads": settings.decode_threads or share,
        }
    )


def _supervise(
    workers: list[_Worker],
    settings: ServerSettings,
    bundles: Info,
    restarts: Counter,
    stopping: list[int],
) -> None:
    """Wait for messages and deaths of workers, at most `_POLL_S` seconds or until a signal."""
    sentinels = [worker.process.sentinel for worker in workers]
    ready = wait([*sentinels, *(worker.pipe for worker in workers)], timeout=_POLL_S)
    for index, worker in enumerate(workers):
        if worker.pipe in ready and (digests := worker.receive()):
            _publish_bundles(bundles, digests)
        if worker.process.sentinel in ready and not stopping:
            workers[index] = _restart(worker, settings, restarts)


def _publish_bundles(bundles: Info, digests: _Digests) -> None:
    for name, labels in digests.items():
        bundles.labels(name).info(labels)


def _restart(worker: _Worker, settings: ServerSettings, restarts: Counter) -> _Worker:
    _log.error("worker %d ended with %s", worker.process.pid, worker.process.exitcode)
    worker.pipe.close()
    mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
    restarts.inc()
    time.sleep(_RESTART_PAUSE_S)  # so that a worker which dies at once does not use up the CPUs
    return _start(settings, joins=True)


def _start(settings: ServerSettings, joins: bool = False) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(settings, theirs, joins), name="textcam-worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _await_ready(worker: _Worker, stopping: list[int]) -> _Digests:
    """Wait until a worker serves, and return its bundles; {} if a stop was requested before.

    Raises:
        InvalidSettings: The worker cannot serve.
    """
    while not stopping and not worker.pipe.poll(_POLL_S):
        pass
    if stopping:
        return {}
    try:
        message: _Message = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        message = f"it ended with status {worker.process.exitcode}"
    if isinstance(message, str):
        raise InvalidSettings(f"a worker cannot serve: {message}")
    return message


def _work(settings: ServerSettings, pipe: Connection, joins: bool) -> None:
    """Run a worker process; `joins` if other workers serve already."""
    from textcam_service.serving.process import serve  # noqa: PLC0415 - grpc, in this process only

    set_up_logs(settings, by_process=True)
    serving = False

    def on_serving(server: Any) -> None:
        nonlocal serving
        serving = True
        pipe.send(server.digests)

    def on_switch(digests: _Digests) -> None:
        if serving:  # the first message has all models
            pipe.send(digests)

    try:
        asyncio.run(serve(settings, on_serving, pipe, on_switch, joins))
    except TextCamError as error:
        pipe.send(str(error))
        raise SystemExit(1) from error


@contextmanager
def _reserved(settings: ServerSettings, port: int) -> Iterator[int]:
    """Reserve a port for the workers, which share it with no other process; yield it.

    A negative port stands for none.
    """
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
            raise InvalidSettings(
                f"cannot listen on {settings.address(port)}: {error.strerror}; choose another port"
            ) from error
        yield address[1]
