"""Run CAM methods that need further passes, interleaved with other requests' batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

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
from textcam_service.errors import DeadlineExpired, InvalidArgument, ServerBusy
from textcam_service.runtime.backbone import Backbone
from textcam_service.runtime.output import BackboneOutput
from textcam_service.serving.batching.batcher import Batcher
from textcam_service.serving.batching.deadlines import BatchLimits
from textcam_service.serving.engine.executors import run_in_executor
from textcam_service.serving.telemetry.metrics import Metrics

# Chunks that are built or run at a time: one in the session, one being made for it. So a batch
# waits for one chunk at most, and memory does not grow with the number of requests.
_CHUNKS = 2
_LONG_RETRY_S = 1.0


class MethodPlan(Enum):
    """Way to run a CAM method alongside other requests."""

    INLINE = "inline"
    """Arithmetic only: in the responding thread."""
    SESSION = "session"
    """One further pass: a turn of the session's thread."""
    LONG = "long"
    """Many passes: in chunks, a limited number of requests at a time."""


@dataclass(frozen=True)
class MethodResult:
    """Result of a method, and its cost.

    Attributes:
        terms: Weights or a map.
        network_passes: Passes of the whole network beyond the first.
        head_passes: Passes of the head, forward or backward.
    """

    terms: CamTerms
    network_passes: int = 0
    head_passes: int = 0


class _Refusals:
    """BatcherEvents that count refusals alone: the other metrics are of images, not gradients."""

    def __init__(self, metrics: Metrics) -> None:
        self.on_expired = metrics.on_expired
        self.on_rejected = metrics.on_rejected

    def _pass_over(self, *_: object) -> None:
        pass

    on_batch = on_depth = on_cancelled = on_restart = _pass_over


class MethodRunner:
    """Runs methods' passes between other requests' batches, in the session's own thread.

    A method of many passes asks for them in chunks. Each chunk waits its turn, so other requests
    go on. Before each chunk the method ends if its deadline has passed or its caller has left.
    Gradients that several requests ask for run as one batch.

    Args:
        backbone: The network.
        session_thread: The one thread that runs sessions.
        workers: Executor of the methods' own arithmetic.
        limits: Limits of batches of gradients; a chunk is as large as a batch.
        max_long: Requests of many passes at a time.
        metrics: Counters.
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
            self._run_gradients, limits, session_thread, _Refusals(metrics)
        )
        self._chunks = asyncio.Semaphore(_CHUNKS)
        self._turn = asyncio.Lock()
        self._max_long = max_long
        self._long = 0
        self._metrics = metrics
        self.settings = MethodSettings(chunk=limits.max_batch)

    async def start(self) -> None:
        """Begin to take queries for gradients."""
        await self._gradients.start()

    async def drain(self, timeout: float) -> None:
        """Finish queued gradients within `timeout` seconds."""
        await self._gradients.drain(timeout)

    def plan(self, method: Method) -> MethodPlan:
        """Return how a method runs on this backbone."""
        if not self._needs_session(method):
            return MethodPlan.INLINE
        head, network = method.head_passes(*self._size), method.image_passes(*self._size)
        return MethodPlan.LONG if head + network > 1 else MethodPlan.SESSION

    def check_passes(self, method: Method, targets: int, max_passes: int) -> None:
        """Refuse a method that takes too many passes.

        Args:
            method: The CAM method.
            targets: Number of targets.
            max_passes: Passes of network and head beyond the first that are allowed.

        Raises:
            InvalidArgument: The method takes more passes.
        """
        head = 0 if self._backbone.is_linear else method.head_passes(*self._size)
        passes = targets * (method.image_passes(*self._size) + head)
        if passes > max_passes:
            raise InvalidArgument(
                f"{method.title} takes up to {passes} passes for {targets} target(s) of this "
                f"model, but this server allows {max_passes}; ask for "
                f"{'fewer targets or ' if targets > 1 else ''}another method, or for a server "
                "with a higher --max-passes",
                field="method",
            )

    @contextmanager
    def reserve(self, plan: MethodPlan) -> Iterator[None]:
        """Reserve the right to run a method for one request, whatever its number of targets.

        Raises:
            ServerBusy: As many requests of many passes are in work as are allowed.
        """
        if plan is not MethodPlan.LONG:
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

    def run_inline(
        self, method: Method, inputs: MethodInput, output: BackboneOutput
    ) -> MethodResult:
        """Run a method of MethodPlan.INLINE in the current thread."""
        steps = method.queries(inputs, self.settings)
        return MethodResult(run_method(steps, partial(self._backbone.query, output=output)))

    async def run(
        self, method: Method, inputs: MethodInput, output: BackboneOutput, deadline: float | None
    ) -> MethodResult:
        """Run a method to its end.

        Args:
            method: One that the backbone supports.
            inputs: The image, and the score to explain.
            output: The backbone's output of the image.
            deadline: Deadline on time.monotonic()'s clock; None: none.

        Raises:
            DeadlineExpired: It passed between two chunks.
        """
        permit = self._chunks if self.plan(method) is MethodPlan.LONG else nullcontext()
        return await self._run(method, inputs, output, deadline, permit)

    async def _run(
        self,
        method: Method,
        inputs: MethodInput,
        output: BackboneOutput,
        deadline: float | None,
        permit: AbstractAsyncContextManager[None],
    ) -> MethodResult:
        steps = method.queries(inputs, self.settings)
        passes = {"network_passes": 0, "head_passes": 0}
        answer: Any = None
        while True:
            async with permit:
                query = await run_in_executor(self._workers, self._advance, steps, answer, output)
                if isinstance(query, CamTerms):
                    return MethodResult(query, **passes)
                if not isinstance(query, Gradient):
                    async with self._turn:
                        self._check_deadline(deadline, method, passes)
                        answer = await run_in_executor(
                            self._session_thread, self._backbone.query, query, output
                        )
            if isinstance(query, Gradient):
                self._check_deadline(deadline, method, passes)
                item = (output, query.class_weights)
                answer = (await self._gradients.submit(item, deadline)).result
            kind = "network_passes" if isinstance(query, ImagePasses) else "head_passes"
            passes[kind] += _passes(query)
            self._metrics.passes.labels(method.name).inc(_passes(query))

    @property
    def _size(self) -> tuple[int, int, MethodSettings]:
        """Channels, cells and settings, by which methods count their passes."""
        manifest = self._backbone.manifest
        return manifest.channel_count, manifest.cells, self.settings

    def _needs_session(self, method: Method) -> bool:
        """Return True if a method's queries take the session, not arithmetic only."""
        linear = self._backbone.is_linear and not method.needs & {
            Capability.LAYERS,
            Capability.ATTENTION,
        }
        return not linear or method.image_passes(1, 1, self.settings) > 0

    def _check_deadline(
        self, deadline: float | None, method: Method, passes: Mapping[str, int]
    ) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            self._metrics.on_expired()
            raise DeadlineExpired(
                f"the deadline passed after {sum(passes.values())} passes of {method.title}; "
                "allow more time, or choose a method of fewer passes"
            )

    def _run_gradients(self, queries: list[tuple[BackboneOutput, Float64Array]]) -> list[Maps]:
        outputs = [output for output, _ in queries]
        weights = np.stack([own for _, own in queries])
        return list(self._backbone.gradients(outputs, weights))

    def _advance(
        self, steps: QueryGenerator, answer: Any, output: BackboneOutput
    ) -> Query | CamTerms:
        """Advance to the next query that takes a session, or to the end."""
        try:
            query = steps.send(answer)
            while self._backbone.is_closed_form(query):
                query = steps.send(self._backbone.query(query, output))
        except StopIteration as end:
            terms: CamTerms = end.value
            return terms
        return query


def _passes(query: Query) -> int:
    if isinstance(query, ImagePasses):
        return len(query.images)
    return len(query.activation_maps) if isinstance(query, HeadPasses) else 1
