"""A real server process on loopback, as `textcam serve` starts it."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
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


@contextmanager
def running(*flags: str, stderr: IO[str] | None = None):
    command = [TEXTCAM, "serve", "--backbone", str(BACKBONE), "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r" on (\S+):(\d+), metrics on (\d+)", line)
            assert found, f"the server did not start: {line!r}"
            host, port, metrics = found.groups()
            yield Running(process, f"{host}:{port}", f"http://{host}:{metrics}/metrics")
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def backbone_folder():
    assert (BACKBONE / "backbone.json").is_file(), "run `make test`, which exports the backbone"
    return BACKBONE


@pytest.fixture(scope="session")
def server(backbone_folder):
    with running("--max-image-pixels", "2000000", "--max-message-bytes", "8000000") as started:
        yield started


@pytest.fixture(scope="session")
def photos():
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    return [PHOTOS / name for name in names]
