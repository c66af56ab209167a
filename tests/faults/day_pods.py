"""Pods as processes: started, probed, stopped and rolled as the Deployment's own words say."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from day_release import Release
from fault_processes import until
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
# The manifest allows a large model minutes.
LONGEST_START_S = 60
# Kubernetes' defaults for what a probe leaves out.
DEFAULTS = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}


class Pod:
    """One replica: init containers, then the server, with the probes of its container.

    Args:
        number: Its last name, and its address' last byte.
        release: What it is a replica of.
        network: The first three bytes of its address.
        folder: For its volumes and its log.
        changed: Told after each change of `ready`, and at the end.

    Attributes:
        ready: Whether the readiness probe says so.
        gone: Whether it ended as it was told to.
        restarts: How often the liveness probe would have had its container restarted.
    """

    def __init__(
        self,
        number: int,
        release: Release,
        network: str,
        folder: Path,
        changed: Callable[[Pod], None],
    ) -> None:
        self.name, self.number = f"textcam-{number}", number
        self.address = f"{network}.{number}"
        self.release = release
        self.ready = self.gone = False
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder / self.name
        self._changed = changed
        self._ended = threading.Event()
        self._starved = threading.Event()
        self._kubelet = threading.Thread(target=self._probe_on, name=f"kubelet of {self.name}")

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        for volume in self.release.pod["volumes"]:
            (self._folder / "volumes" / volume["name"]).mkdir(parents=True)
        for container in self.release.pod["initContainers"]:
            assert self._run(container).wait() == 0, f"{container['name']}: {self.log}"
        self.process = self._run(self.release.server)
        self._wait_for_startup()
        self._kubelet.start()
        until(lambda: self.ready, LONGEST_START_S, f"{self.name} is ready: {self.log}")

    def delete(self) -> None:
        """Take it out of the endpoints, run preStop, send SIGTERM; SIGKILL after the grace."""
        self._ended.set()
        self._kubelet.join()
        self._say(False)
        before = self.release.server["lifecycle"]["preStop"]["sleep"]["seconds"]
        time.sleep(before)
        self.process.terminate()
        status = self.process.wait(self.release.pod["terminationGracePeriodSeconds"] - before)
        self.gone = True
        self._changed(self)
        assert status == 0, f"{self.name} ended with {status}: {self.log}"

    def starve(self) -> None:
        """Its node stands still: neither the pod nor the kubelet beside it gets any CPU."""
        self._starved.set()
        self.process.send_signal(signal.SIGSTOP)

    def feed(self) -> None:
        """Its node goes on."""
        self.process.send_signal(signal.SIGCONT)
        self._starved.clear()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._ended.set()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self._kubelet.is_alive():
            self._kubelet.join()

    def _wait_for_startup(self) -> None:
        probe = self._probe("startupProbe")
        allowed = min(probe["periodSeconds"] * probe["failureThreshold"], LONGEST_START_S)
        end = time.monotonic() + allowed
        while not self._answers(probe):
            assert self.process.poll() is None, f"{self.name} ended: {self.log}"
            assert time.monotonic() < end, f"{self.name} does not start: {self.log}"
            time.sleep(probe["periodSeconds"])

    def _run(self, container: dict[str, Any]) -> subprocess.Popen[bytes]:
        start = self.release.start(container, self.address, self._folder / "volumes")
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                start.arguments, env=start.environment, cwd="/", stdout=log, stderr=log
            )

    def _probe(self, kind: str) -> dict[str, Any]:
        return DEFAULTS | self.release.server[kind]

    def _answers(self, probe: dict[str, Any]) -> bool:
        """Ask as Kubernetes' gRPC probe does: on a connection of its own."""
        asked, seconds = probe["grpc"], probe["timeoutSeconds"]
        with grpc.insecure_channel(f"{self.address}:{asked['port']}") as channel:
            request = health_pb2.HealthCheckRequest(service=asked.get("service", ""))
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds)
            except grpc.RpcError:
                return False
        return bool(answer.status == SERVING)

    def _probe_on(self) -> None:
        """Readiness and liveness, each by its period, until the pod is to go."""
        probes = {kind: self._probe(kind) for kind in ("readinessProbe", "livenessProbe")}
        due, failures = dict.fromkeys(probes, 0.0), dict.fromkeys(probes, 0)
        while not self._ended.wait(0.1):
            for kind, probe in probes.items():
                if self._starved.is_set() or time.monotonic() < due[kind]:
                    continue
                due[kind] = time.monotonic() + probe["periodSeconds"]
                failures[kind] = 0 if self._answers(probe) else failures[kind] + 1
                failed = failures[kind] == probe["failureThreshold"]
                if kind == "livenessProbe":
                    self.restarts += failed
                elif failed or not failures[kind]:
                    self._say(not failed)

    def _say(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self._changed(self)


class Deployment:
    """The pods of a release, which may be rolled to another.

    Args:
        release: The first.
        folder: For the pods.
        route: Told of a pod that became ready, or is so no more, or is gone.
        scrape: Told of all pods that are there, whenever one comes or goes.
    """

    def __init__(
        self,
        release: Release,
        folder: Path,
        route: Callable[[Pod], None],
        scrape: Callable[[list[Pod]], None],
    ) -> None:
        self.pods: list[Pod] = []
        self.every: list[Pod] = []
        self._release, self._folder = release, folder
        self._route, self._scrape = route, scrape
        # Of this run alone, so that others on this host may rehearse at the same time.
        self._network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        self._threads = ThreadPoolExecutor()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start all replicas at once."""
        count = self._release.deployment["replicas"]
        self.pods = [self._new() for _ in range(count)]
        list(self._threads.map(Pod.start, self.pods))

    def roll(self, release: Release) -> None:
        """Replace the pods one by one, in the order that the strategy asks for."""
        self._release = release
        strategy = release.deployment["strategy"]
        assert strategy["type"] == "RollingUpdate"
        bounds = strategy["rollingUpdate"]
        going: list[Future[None]] = []
        for place, old in enumerate(self.pods):
            # A surge of one: the new pod is available before the old one is told to go.
            if not bounds["maxSurge"]:
                old.delete()
            new = self._new()
            new.start()
            time.sleep(release.deployment.get("minReadySeconds", 0))
            self.pods[place] = new
            if bounds["maxSurge"]:
                going.append(self._threads.submit(old.delete))
        for one in going:
            one.result()

    def close(self) -> None:
        for pod in self.every:
            pod.kill()
        self._threads.shutdown()

    def _new(self) -> Pod:
        pod = Pod(len(self.every) + 1, self._release, self._network, self._folder, self._tell)
        self.every.append(pod)
        with self._lock:
            self._scrape(self._there())
        return pod

    def _there(self) -> list[Pod]:
        return [pod for pod in self.every if not pod.gone]

    def _tell(self, pod: Pod) -> None:
        with self._lock:
            self._route(pod)
            self._scrape(self._there())


def restarts(pods: Sequence[Pod]) -> dict[str, int]:
    """Those that Kubernetes would have restarted."""
    return {pod.name: pod.restarts for pod in pods if pod.restarts}
