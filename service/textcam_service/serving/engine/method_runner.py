"""Holding a CAM method's conversation while the server serves others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np

from textcam_service.core.maps import Maps
from textcam_service.core.methods import (
    CamTerms,
    Capability,
    Gradient,
    HeadPasses,
    ImagePasses,
    Method,
    MethodInput,
    MethodSettings,
    Query,
    QueryGenerator,
    run_method,
)
from textcam_service.core.types import Float64Array
from textcam_service.errors import DeadlineExpired, ServerBusy
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.output import BackboneOutput
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.queues import BatchLimits
from textcam_service.serving.telemetry.metrics import Metrics

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class MethodResult:
    """What a method found, and what it took.

    Attributes:
        terms: Its weights or map.
        network_passes: Passes of the whole network beyond the first.
        head_passes: Passes of the head, forward or backward.
    """

    terms: CamTerms
    network_passes: int = 0
    head_passes: int = 0


class _Refusals:
    """BatcherEvents of which refusals count: the other metrics tell of images, not of gradients."""

    def __init__(self, metrics: Metrics) -> None:
        self.on_expired = metrics.on_expired
        self.on_rejected = metrics.on_rejected

    def _pass_over(self, *_: object) -> None:
        pass

    on_batch = on_depth = on_cancelled = on_restart = _pass_over


# Chunks that are built or run at a time: one in the session, one being made for it. So a batch
# waits for one chunk at most, and memory does not grow with the number of conversations.
_CHUNKS = 2
_LONG_RETRY_S = 1.0


class MethodRunner:
    """Methods' passes between other requests' batches, in the session's own thread.

    A method that needs many passes asks for them in chunks. Each chunk waits its turn, so other
    requests go on; before each, a deadline that has passed, or a caller who has left, ends it.
    Gradients that several requests ask for run as one batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        session_thread: ThreadPoolExecutor,
        workers: Executor,
        limits: BatchLimits,
        max_long: int,
        metrics: Metrics,
    ) -> None:
        self._backbone = backbone
        self._session_thread = session_thread
        self._workers = workers
        self._gradients: Batcher[tuple[BackboneOutput, Float64Array], Maps] = Batcher(
            self._pull, limits, session_thread, _Refusals(metrics)
        )
        self._chunks = asyncio.Semaphore(_CHUNKS)
        self._turn = asyncio.Lock()
        self._max_long = max_long
        self._long = 0
        self._metrics = metrics
        self.settings = MethodSettings(chunk=limits.max_batch)

    async def start(self) -> None:
        """Begin to take asks for gradients."""
        await self._gradients.start()

    async def drain(self, timeout: float) -> None:
        """Finish what is queued within `timeout` seconds."""
        await self._gradients.drain(timeout)

    def takes_turns(self, method: Method) -> bool:
        """Whether a method's answers take the session, and not arithmetic only."""
        linear = self._backbone.is_linear and not method.needs & {
            Capability.LAYERS,
            Capability.ATTENTION,
        }
        return not linear or method.image_passes(1, 1, self.settings) > 0

    @contextmanager
    def permit(self, method: Method) -> Iterator[None]:
        """A request's leave to hold conversations of a method, one per target.

        Raises:
            ServerBusy: As many requests hold some of many passes as are allowed.
        """
        if not self.is_long(method):
            yield
            return
        if self._long >= self._max_long:
            error = ServerBusy(
                f"{self._long} requests of many passes are in work, the most this server takes; "
                "try again later",
                retry_after_s=_LONG_RETRY_S,
            )
            self._metrics.on_rejected(error.reason)
            raise error
        self._long += 1
        try:
            yield
        finally:
            self._long -= 1

    def is_long(self, method: Method) -> bool:
        """Whether a method's conversations take the session more than once."""
        manifest = self._backbone.manifest
        size = (manifest.channel_count, manifest.cells, self.settings)
        passes = method.image_passes(*size) + method.head_passes(*size)
        return self.takes_turns(method) and passes > 1

    def hold_at_once(
        self, method: Method, subject: MethodInput, seen: BackboneOutput
    ) -> MethodResult:
        """Hold the conversation of a method that takes no turns, in this thread."""
        steps = method.steps(subject, self.settings)
        return MethodResult(run_method(steps, partial(self._backbone.query, output=seen)))

    async def hold(
        self, method: Method, subject: MethodInput, seen: BackboneOutput, deadline: float | None
    ) -> MethodResult:
        """Hold a conversation to its end.

        Args:
            method: One that the backbone supports.
            subject: What is explained.
            seen: What the backbone made of the image.
            deadline: On time.monotonic()'s clock; None: none.

        Raises:
            DeadlineExpired: It passed between two chunks.
        """
        permit = self._chunks if self.is_long(method) else nullcontext()
        return await self._hold(method, subject, seen, deadline, permit)

    async def _hold(
        self,
        method: Method,
        subject: MethodInput,
        seen: BackboneOutput,
        deadline: float | None,
        permit: AbstractAsyncContextManager[None],
    ) -> MethodResult:
        steps = method.steps(subject, self.settings)
        passes = {"network_passes": 0, "head_passes": 0}
        answer: Any = None
        while True:
            async with permit:
                ask = await run(self._workers, self._advance, steps, answer, seen)
                if isinstance(ask, CamTerms):
                    return MethodResult(ask, **passes)
                if not isinstance(ask, Gradient):
                    async with self._turn:
                        self._require_time(deadline, method, passes)
                        answer = await run(self._session_thread, self._backbone.query, ask, seen)
            if isinstance(ask, Gradient):
                self._require_time(deadline, method, passes)
                item = (seen, ask.class_weights)
                answer = (await self._gradients.submit(item, deadline)).result
            kind = "network_passes" if isinstance(ask, ImagePasses) else "head_passes"
            passes[kind] += _passes(ask)
            self._metrics.passes.labels(method.name).inc(_passes(ask))

    def _require_time(
        self, deadline: float | None, method: Method, passes: Mapping[str, int]
    ) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            self._metrics.on_expired()
            raise DeadlineExpired(
                f"the deadline passed after {sum(passes.values())} passes of {method.title}; "
                "allow more time, or choose a method of fewer passes"
            )

    def _pull(self, asked: list[tuple[BackboneOutput, Float64Array]]) -> list[Maps]:
        seen = [one for one, _ in asked]
        return list(self._backbone.gradients(seen, np.stack([weights for _, weights in asked])))

    def _advance(
        self, steps: QueryGenerator, answer: Any, seen: BackboneOutput
    ) -> Query | CamTerms:
        """To the next ask that takes a session, or to the end."""
        try:
            ask = steps.send(answer)
            while self._backbone.is_closed_form(ask):
                ask = steps.send(self._backbone.query(ask, seen))
        except StopIteration as end:
            terms: CamTerms = end.value
            return terms
        return ask


def _passes(ask: Query) -> int:
    if isinstance(ask, ImagePasses):
        return len(ask.images)
    return len(ask.activation_maps) if isinstance(ask, HeadPasses) else 1


async def run(
    executor: Executor,
    function: Callable[Arguments, Answer],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Answer:
    """Run a function in an executor's thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, partial(function, *args, **kwargs))
