"""Runs of explain_many, images and a clock that the client's stream tests share."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from client_samples import QUICK, make_pixels
from textcam_client import CallError


class Sync:
    """Runs explain_many of a Client to its end."""

    def run(self, server, images, *, settings=None, **options):
        with server.client(**{"retry": QUICK, "timeout": 5.0, **(settings or {})}) as client:
            return list(client.explain_many(images, **options))


class Aio:
    """Runs explain_many of an AsyncClient to its end."""

    def run(self, server, images, *, settings=None, **options):
        async def collected():
            merged = {"retry": QUICK, "timeout": 5.0, **(settings or {})}
            async with server.async_client(**merged) as client:
                return [answer async for answer in client.explain_many(images, **options)]

        return asyncio.run(collected())


class Clock:
    """A monotonic clock that can be put forward; stands in for the module `time`."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def put_forward(self, seconds: float) -> None:
        self._ahead += seconds


def backwards(request) -> float:
    """The later of eight, the sooner answered."""
    return 0.005 * (8 - int(request.request_id.split("-")[1].split(".")[0]) % 8)


def is_first(request) -> bool:
    """Return True for the first image's request, retries included."""
    return request.request_id.rpartition("-")[2].split(".")[0] == "0"


def widths(answers) -> list[int | str]:
    return [a.reason if isinstance(a, CallError) else a.image_size[1] for a in answers]


def images_of(count: int) -> list[np.ndarray]:
    """Each known by its width."""
    return [make_pixels(10, 20 + i, i) for i in range(count)]
