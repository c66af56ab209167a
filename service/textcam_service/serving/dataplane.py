"""Where requests are taken in, whatever the contract they came by.

Admitted, brought to their model, answered, counted.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
from google.rpc.status_pb2 import Status
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import DeadlineExpired, ServerBusy, ShuttingDown, TextCamError
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.batching.slot import is_due
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.grpc.explainer import requests
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.status import code_of, reason_of, status_of
from textcam_service.serving.telemetry.logs import AccessLog
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import Metadata, NoopTracer, Tracer
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_BUSY_RETRY_S = 0.25
_DRAIN_RETRY_S = 1.0


class DataPlane:
    """Takes requests for the served models.

    Args:
        models: What is served.
        settings: See ServerSettings.
        metrics: What to count in.
        access: Who may use what.
        tracer: Told of each request; None: nobody is.

    Attributes:
        models: What is served.
    """

    def __init__(
        self,
        models: ModelRegistry,
        settings: ServerSettings,
        metrics: Metrics,
        access: Authorizer,
        tracer: Tracer | None = None,
    ) -> None:
        self.models = models
        self._settings = settings
        self._max_wait_s = settings.max_wait_ms / 1000 or math.inf
        self._metrics = metrics
        self._access = access
        self._tracer = tracer or NoopTracer()
        self._access_log = AccessLog(settings)
        # grpc.aio's own maximum_concurrent_rpcs is known to miscount, hence a count of our own.
        self._in_flight = 0
        self._bytes_in_work = 0
        self._undelivered = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def stop_admitting(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    async def drained(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for all that was admitted to be answered."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)

    def hold(self, items: int, size: int) -> None:
        """Items of streams whose answers were not taken yet, and such answers' bytes, changed."""
        self._undelivered += items
        self._bytes_in_work += size
        self._tell_idle()

    async def answer(
        self,
        method: str,
        request: pb.ExplainRequest,
        deadline: float | None,
        lane: Lane,
        metadata: Metadata = (),
        leased: Engine | None = None,
    ) -> pb.ExplainResponse | Status:
        """Answer or say why not; only cancellation escapes.

        Args:
            method: The call's name, for the metrics.
            request: As it came.
            deadline: On time.monotonic()'s clock; None: none.
            lane: Who waits, where the request does not say.
            metadata: The call's; a trace that the caller began is taken up.
            leased: The version that answers, where the caller holds its lease, was charged and
                holds places; None: the one that the request names.
        """
        record = self._open(method, request, metadata)
        try:
            with ExitStack() as held:
                engine = leased or held.enter_context(self.lease(request.model, images=1))
                if not leased:
                    held.enter_context(self.admitted(record.request_bytes))
                lane = requests.read_lane(request.lane, lane)
                record.lane = lane.name.lower()
                # A batch takes as long as its images do, an audit as long as it is let.
                waits_shortly = lane is Lane.INTERACTIVE and not leased
                most = self._max_wait_s if waits_shortly else math.inf
                response = await engine.explain(request, deadline, lane, record, most)
        except asyncio.CancelledError:
            if is_due(deadline):
                self._close(record, grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExpired.reason)
            else:
                self._close(record, grpc.StatusCode.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - the last stop: logged, counted, answered
            self._note(error, f"request {record.request_id!r}")
            self._close(record, code_of(error), reason_of(error))
            return status_of(error)
        self._close(record, grpc.StatusCode.OK)
        return response

    def refuse(
        self, method: str, request: pb.ExplainRequest, metadata: Metadata, error: TextCamError
    ) -> Status:
        """Refuse an image's request that cannot be answered; told of as if it had been tried.

        And charged: who may not ask, or not so often, hears of that instead.
        """
        record = self._open(method, request, metadata)
        try:
            with self.lease(request.model, images=1):
                raise error
        except TextCamError as refusal:
            self._close(record, code_of(refusal), reason_of(refusal))
            return status_of(refusal)

    def fail(self, method: str, error: Exception, request_id: str = "") -> Status:
        """Count a call that failed as a whole, log what was not expected, and say why it did."""
        self._note(error, method)
        self.count(method, code_of(error), reason_of(error), request_id)
        return status_of(error)

    @contextmanager
    def lease(self, spec: types_pb.ModelSpec, images: int = 0) -> Iterator[Engine]:
        """The version that a request names, open for as long as the context lasts.

        Whether who calls may use the model is settled before anything is said of it.

        Args:
            spec: As it came; no name: the only model.
            images: What the caller's rate is charged.

        Raises:
            AccessRefused: They may not, or not so often.
            TextCamError: See ModelRegistry.lease.
        """
        name = self.models.meant(spec.name, self.shows)
        self._access.admit(name, images, named=bool(spec.name))
        meant = types_pb.ModelSpec(name=name, version=spec.version)
        with self.models.lease(meant, self.shows) as engine:
            yield engine

    def bundle(self, spec: types_pb.ModelSpec) -> ModelBundle:
        """What a request names, to be described; raises as lease() does."""
        with self.lease(spec) as engine:
            return engine.bundle

    def shows(self, model: str) -> bool:
        """Whether who calls may know of a model."""
        return self._access.shows(model)

    def _open(self, method: str, request: pb.ExplainRequest, metadata: Metadata) -> RequestRecord:
        request_id = request.request_id[: requests.MAX_REQUEST_ID]
        record = RequestRecord(method, request_id, request.ByteSize(), self._access.caller)
        self._tracer.begin(record, metadata)
        return record

    def _close(self, record: RequestRecord, code: grpc.StatusCode, reason: str = "") -> None:
        record.code, record.reason = code.name, reason
        record.seconds = time.monotonic() - record.began
        self._metrics.request_seconds.labels(record.rpc, code.name).observe(record.seconds)
        self._tracer.end(record)
        self._tell(record)

    @contextmanager
    def admitted(self, size: int, places: int = 1) -> Iterator[None]:
        """Hold places for what is worked on; what holds them is finished, also in a drain.

        Args:
            size: Bytes of the request.
            places: Images at most that are worked on at a time.

        Raises:
            ShuttingDown: stop_admitting() was called.
            ServerBusy: There are too many, or too large ones, in work.
        """
        if self._draining:
            raise ShuttingDown(
                "the server shuts down; another replica will answer", retry_after_s=_DRAIN_RETRY_S
            )
        full = self._in_flight + places > self._settings.max_concurrent
        if full or self._bytes_in_work + size > self._settings.max_bytes_in_work:
            error = ServerBusy(
                f"{self._in_flight} requests are in work, which take {self._bytes_in_work:,} bytes "
                "with the streams' answers that nobody took yet, the most this server takes; try "
                "again shortly",
                retry_after_s=_BUSY_RETRY_S,
            )
            self._metrics.on_rejected(error.reason)
            raise error
        self._count_in_work(places, size)
        try:
            yield
        finally:
            self._count_in_work(-places, -size)

    def _note(self, error: Exception, what: str) -> None:
        if not isinstance(error, TextCamError):
            self._metrics.unexpected.inc()
            _log.error("%s failed unexpectedly", what, exc_info=error)

    def _count_in_work(self, requests: int, size: int) -> None:
        self._in_flight += requests
        self._bytes_in_work += size
        self._metrics.in_flight.set(self._in_flight)
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._in_flight or self._undelivered:
            self._idle.clear()
        else:
            self._idle.set()

    def count(
        self, method: str, code: grpc.StatusCode, reason: str = "", request_id: str = ""
    ) -> None:
        """Count an answer to what came to no image."""
        self._tell(
            RequestRecord(
                method,
                request_id[: requests.MAX_REQUEST_ID],
                caller=self._access.caller,
                code=code.name,
                reason=reason,
            )
        )

    def _tell(self, record: RequestRecord) -> None:
        self._metrics.requests.labels(record.rpc, record.code).inc()
        self._access_log.write(record)
