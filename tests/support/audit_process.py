"""An audit in a process of its own, which tests kill."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from audit_runs import audited
from textcam_client import Client
from textcam_client.audit.errors import AuditError
from textcam_client.audit.run.log import RecordLog


def main() -> None:
    """ADDRESS DATA OUT, then NAME=NUMBER settings."""
    address, data, output, *given = sys.argv[1:]
    settings = {name: float(value) for name, value in (pair.split("=") for pair in given)}
    largest = int(settings.pop("largest_file", 0))
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    for name in ("segment_rows", "concurrency"):
        if name in settings:
            settings[name] = int(settings[name])
    with Client(address) as client:
        try:
            audited(client, data, output, **settings)
        except AuditError as error:
            sys.exit(f"{type(error).__name__}: {error}")


def start(address: str, data: Path, output: Path, **settings: float) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), *sys.path]
    return subprocess.Popen(
        [sys.executable, "-c", "import audit_process; audit_process.main()", address, str(data),
         str(output), *(f"{name}={value}" for name, value in settings.items())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """Exit status and standard error of a process that ends by itself."""
    _, words = process.communicate(timeout=seconds)
    return process.returncode, words


def safe_rows(output: Path) -> int:
    """Rows whose records are in files."""
    folder = output / ".work" / "segments"
    if not folder.is_dir():
        return 0
    return RecordLog(folder, [], (), 1).safe


def wait_for(condition, what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
