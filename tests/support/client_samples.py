"""Images and settings that the client's tests share."""

from __future__ import annotations

import inspect
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from textcam_client import Retry

QUICK = Retry(attempts=4, initial_backoff=0.01, max_backoff=0.05)


def make_pixels(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """Smooth colours that differ from place to place and from seed to seed."""
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x / 11 + seed) + np.cos(y / 7),
        np.cos((x + y) / 13 - seed),
        np.sin(y / 9 + 2 * seed),
    ]
    return (np.stack(waves, axis=2) * 60 + 128).clip(0, 255).astype(np.uint8)


def make_png(seed: int) -> bytes:
    """A small file, another for each seed."""
    buffer = io.BytesIO()
    Image.fromarray(make_pixels(24, 32, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def eventually(condition: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class InLoop:
    """An AsyncClient's coroutines awaited by `call`, a Client's methods just called."""

    def __init__(self, client):
        self.client = client

    async def call(self, name, *args, **kwargs):
        result = getattr(self.client, name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result
