"""A loopback server and a small photograph for the client's tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from client_samples import QUICK, InLoop, make_pixels
from PIL import Image
from textcam_client import Client
from textcam_client.testing import InMemoryServer, serve_in_memory


@pytest.fixture
def pixels() -> np.ndarray:
    return make_pixels()


@pytest.fixture
def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def png_path(png: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png)
    return path


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with serve_in_memory() as running:
        yield running


@pytest.fixture
def client(server: InMemoryServer) -> Iterator[Client]:
    with server.client(retry=QUICK, timeout=5) as connected:
        yield connected


@pytest.fixture(params=["sync", "async"])
def connect(request, server):
    """A context manager that gives either client of the server."""

    @asynccontextmanager
    async def connected(**settings):
        settings = {"retry": QUICK, "timeout": 5.0, **settings}
        if request.param == "sync":
            with server.client(**settings) as client:
                yield InLoop(client)
        else:
            async with server.async_client(**settings) as client:
                yield InLoop(client)

    return connected
