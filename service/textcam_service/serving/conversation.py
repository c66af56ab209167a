"""Holding a CAM method's conversation while the server serves others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from textcam_service.backbone import Backbone, Seen
from textcam_service.core.methods import (
    Ask,
    CamTerms,
    HeadPasses,
    ImagePasses,
    Method,
    MethodSettings,
    Steps,
    Subject,
)
from textcam_service.errors import DeadlineExpired

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


class Conversations:
    """Methods' passes between other requests' batches, in the session's own thread.

    A method that needs many passes asks for them in chunks. Each chunk waits its turn, so other
    requests go on; before each, a deadline that has passed, or a caller who has left, ends it.
    """

    def __init__(
        self,
        backbone: Backbone,
        session_thread: ThreadPoolExecutor,
        workers: ThreadPoolExecutor,
        chunk: int,
    ) -> None:
        self._backbone = backbone
        self._session_thread = session_thread
        self._workers = workers
        self.settings = MethodSettings(chunk=chunk)

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
            answer = await run(self._session_thread, self._backbone.answer, ask, seen)
            kind = "network_passes" if isinstance(ask, ImagePasses) else "head_passes"
            passes[kind] += _passes(ask)

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
