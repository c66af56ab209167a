"""Holding a CAM method's conversation while the server serves others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np

from textcam_service.backbone import Backbone, Seen
from textcam_service.core.methods import (
    Ask,
    CamTerms,
    Gradient,
    HeadPasses,
    ImagePasses,
    Method,
    MethodSettings,
    Steps,
    Subject,
)
from textcam_service.core.types import Float32Array, Float64Array
from textcam_service.errors import DeadlineExpired
from textcam_service.serving.batcher import Batcher, BatchLimits

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Found:
    """What a method found, and what it took.

    Attributes:
        terms: Its weights or map.
        network_passes: Passes of the whole network beyond the first.
        head_passes: Passes of the head, forward or backward.
    """

    terms: CamTerms
    network_passes: int = 0
    head_passes: int = 0


class _Untold:
    """BatcherEvents that go nowhere: the metrics tell of images, not of gradients."""

    def _pass_over(self, *_: object) -> None:
        pass

    on_batch = on_depth = on_expired = on_cancelled = on_rejected = _pass_over


class Conversations:
    """Methods' passes between other requests' batches, in the session's own thread.

    A method that needs many passes asks for them in chunks. Each chunk waits its turn, so other
    requests go on; before each, a deadline that has passed, or a caller who has left, ends it.
    Gradients that several requests ask for run as one batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        session_thread: ThreadPoolExecutor,
        workers: ThreadPoolExecutor,
        limits: BatchLimits,
    ) -> None:
        self._backbone = backbone
        self._session_thread = session_thread
        self._workers = workers
        self._gradients: Batcher[tuple[Seen, Float64Array], Float32Array] = Batcher(
            self._pull, limits, session_thread, _Untold()
        )
        self._turn = asyncio.Lock()
        self.settings = MethodSettings(chunk=limits.max_batch)

    async def start(self) -> None:
        """Begin to take asks for gradients."""
        await self._gradients.start()

    async def drain(self, timeout: float) -> None:
        """Finish what is queued within `timeout` seconds."""
        await self._gradients.drain(timeout)

    async def hold(
        self, method: Method, subject: Subject, seen: Seen, deadline: float | None
    ) -> Found:
        """Hold a conversation to its end.

        Args:
            method: One that the backbone supports.
            subject: What is explained.
            seen: What the backbone made of the image.
            deadline: On time.monotonic()'s clock; None: none.

        Raises:
            DeadlineExpired: It passed between two chunks.
        """
        steps = method.steps(subject, self.settings)
        passes = {"network_passes": 0, "head_passes": 0}
        answer: Any = None
        while True:
            ask = await run(self._workers, self._advance, steps, answer, seen)
            if isinstance(ask, CamTerms):
                return Found(ask, **passes)
            if deadline is not None and time.monotonic() >= deadline:
                taken = sum(passes.values())
                raise DeadlineExpired(
                    f"the deadline passed after {taken} passes of {method.title}; allow more "
                    "time, or choose a method of fewer passes"
                )
            if isinstance(ask, Gradient):
                item = (seen, ask.class_weights)
                answer = (await self._gradients.submit(item, deadline)).result
            else:
                # One chunk of all conversations at a time, so that a batch waits for one only.
                async with self._turn:
                    answer = await run(self._session_thread, self._backbone.answer, ask, seen)
            kind = "network_passes" if isinstance(ask, ImagePasses) else "head_passes"
            passes[kind] += _passes(ask)

    def _pull(self, asked: list[tuple[Seen, Float64Array]]) -> list[Float32Array]:
        seen = [one for one, _ in asked]
        return list(self._backbone.gradients(seen, np.stack([weights for _, weights in asked])))

    def _advance(self, steps: Steps, answer: Any, seen: Seen) -> Ask | CamTerms:
        """To the next ask that takes a session, or to the end."""
        try:
            ask = steps.send(answer)
            while self._backbone.answers_at_once(ask):
                ask = steps.send(self._backbone.answer(ask, seen))
        except StopIteration as end:
            terms: CamTerms = end.value
            return terms
        return ask


def _passes(ask: Ask) -> int:
    if isinstance(ask, ImagePasses):
        return len(ask.images)
    return len(ask.activation_maps) if isinstance(ask, HeadPasses) else 1


async def run(
    executor: ThreadPoolExecutor,
    function: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """Run a function in an executor's thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, partial(function, *args, **kwargs))
