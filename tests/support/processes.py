"""A real server process on loopback, as `textcam serve` starts it."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import skimage

ROOT = Path(__file__).parents[2]
BACKBONE = ROOT / "build" / "backbone"
BANK = ROOT / "service" / "textcam_service" / "data" / "photos"
TEXTCAM = str(Path(sys.executable).with_name("textcam"))
PHOTOS = Path(skimage.__file__).parent / "data"


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str
    metrics: str
    health: str


@contextmanager
def running(*flags: str, stderr: IO[str] | None = None):
    """`stderr`: An open file for the server's log; None: the test's own."""
    command = [TEXTCAM, "serve", "--backbone", str(BACKBONE), "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r" on (\S+):(\d+), metrics on (\d+)(?:, health on (\d+))?", line)
            assert found, f"the server did not start: {line!r}"
            host, port, metrics, health = found.groups()
            page = f"http://{host}:{metrics}/metrics"
            yield Running(process, f"{host}:{port}", page, f"{host}:{health}")
        finally:
            process.terminate()
            process.wait(30)
