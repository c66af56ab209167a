"""Servers as processes on loopback: this service by its command line, and its peers."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from serve.environments import PeerMissing, environment
from serve.materials import TEXTCAM

PEERS = ("litserve", "bentoml", "mlserver")
SCRIPTS = Path(__file__).parent / "peers"
MAX_BATCH = 8  # of the peers, as is the wait for company: the service's own defaults
MAX_DELAY_S = 0.005
_START_S = 600
_READY = {
    "litserve": "/health", "bentoml": "/readyz", "mlserver": "/v2/models/explainer/ready",
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        caller: Name in callers.CALLERS.
        address: host:port.
        pid: Of its first process.
    """

    caller: str
    address: str
    pid: int


@contextmanager
def textcam(model, log, *flags, environment=None):
    """This service with its own settings, and `flags`."""
    command = [TEXTCAM, "serve", "--backbone", str(model.backbone), "--port", "0"]
    command += ["--metrics-port", "-1", "--name", model.name, *flags]
    if model.bank is not None:
        command += ["--bank", str(model.bank)]
    with log.open("w") as written:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=written, text=True, env=environment
        )
    with _ended(process):
        line = process.stdout.readline()
        found = re.search(r" on (\S+:\d+)", line)
        if found is None:
            raise RuntimeError(f"the service did not start: {line!r}\n{log.read_text()[-2000:]}")
        yield Server("textcam", found.group(1), process.pid)


@contextmanager
def peer(name, model, work, log):
    """A peer, serving grad-cam of the same weights; raises PeerMissing."""
    binaries = environment(name, Path("build/peers"))
    model.write_checkpoint()
    port = _free_port()
    command, folder = _COMMANDS[name](binaries.resolve(), port, model, work.resolve())
    with log.open("w") as written:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdout=written, stderr=written,
            env=_surroundings(binaries, model, work),
        )  # fmt: skip
    with _ended(process):
        address = f"127.0.0.1:{port}"
        _wait_until_ready(process, name, address, log)
        yield Server(name, address, process.pid)


def _surroundings(binaries, model, work):
    """The environment of a peer: nothing of this project's Python in it, and no telemetry."""
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return kept | {
        "PATH": f"{binaries.resolve()}:{kept.get('PATH', '')}",
        "PYTHONPATH": str(SCRIPTS.resolve()),
        "BENCH_MODEL": model.name,
        "BENCH_CHECKPOINT": str(model.checkpoint.resolve()),
        "BENCH_MAX_BATCH": str(MAX_BATCH),
        "BENCH_MAX_DELAY_S": str(MAX_DELAY_S),
        "BENTOML_HOME": str((work / "bentoml").resolve()),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _litserve(binaries, port, model, work):
    return [binaries / "python", SCRIPTS.resolve() / "litserve_app.py", port], work


def _bentoml(binaries, port, model, work):
    serve = [binaries / "bentoml", "serve", "bentoml_app:Explain"]
    return [*serve, "--host", "127.0.0.1", "--port", port], SCRIPTS.resolve()


def _mlserver(binaries, port, model, work):
    folder = work / "mlserver" / model.name
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": _free_port(),
        "metrics_port": _free_port(), "debug": False,
    }  # fmt: skip
    explainer = {
        "name": "explainer", "implementation": "mlserver_app.Explain",
        "max_batch_size": MAX_BATCH, "max_batch_time": MAX_DELAY_S,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(explainer))
    return [binaries / "mlserver", "start", folder], folder


_COMMANDS = {"litserve": _litserve, "bentoml": _bentoml, "mlserver": _mlserver}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(process, name, address, log):
    """Until the peer's own readiness endpoint says that its model is loaded."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx2.HTTPError):
            found = httpx2.get(f"http://{address}{_READY[name]}", timeout=5, trust_env=False)
            if found.status_code == 200:
                return
        time.sleep(0.2)
    fate = "was not ready in time" if process.poll() is None else "ended at once"
    raise PeerMissing(f"{name} {fate}; {log} ends:\n{log.read_text()[-1500:]}")


@contextmanager
def _ended(process):
    """See to it that the process and its children are gone at the end."""
    try:
        yield
    finally:
        children = []
        with suppress(psutil.NoSuchProcess):  # it may have ended by itself
            children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if process.stdout is not None:
            process.stdout.close()
