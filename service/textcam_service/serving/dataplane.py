"""The data plane: one way for every request, whichever contract it uses.

It opens the request's record, authorises the request, leases its model, admits the request, runs it
and closes the record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeVar

from textcam_service.errors import DeadlineExpired, TextCamError
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.admission import AdmissionControl
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.batching.slot import deadline_passed
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.engine.jobs import MAX_REQUEST_ID, ModelRef
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.status import code_of, reason_of
from textcam_service.serving.telemetry.logs import AccessLog
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.record import RequestRecord
from textcam_service.serving.telemetry.tracing import Metadata, NoopTracer, Tracer
from textcam_service.settings import ServerSettings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
# The work of a request, once its model is leased and it is admitted.
Call: TypeAlias = Callable[[Engine, RequestRecord], Awaitable[_T]]


@dataclass(frozen=True)
class RpcRequest:
    """A request before it is read.

    Attributes:
        rpc: Name of the method, for metrics, log and traces.
        model: The model that the request names.
        request_id: Chosen by the client.
        size: Bytes of the request.
        deadline: Deadline on time.monotonic()'s clock; None: none.
        metadata: Metadata of the call; a trace that the client began is continued.
    """

    rpc: str
    model: ModelRef
    request_id: str = ""
    size: int = 0
    deadline: float | None = None
    metadata: Metadata = ()


class DataPlane:
    """Takes requests for the served models.

    Args:
        models: The served models.
        settings: See ServerSettings.
        metrics: Counters.
        access: Rights and rates of callers.
        tracer: Traces of requests; None: none.

    Attributes:
        models: The served models.
        admission: Bounds of the work.
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
        self.admission = AdmissionControl(settings, metrics)
        self._metrics = metrics
        self._access = access
        self._tracer = tracer or NoopTracer()
        self._access_log = AccessLog(settings)

    async def handle(self, request: RpcRequest, call: Call[_T]) -> _T:
        """Authorise, lease, admit, call; record the request however it ends.

        Raises:
            TextCamError: See lease(), AdmissionControl.admit and the call.
        """
        with (
            self._recorded(request) as record,
            self.lease(request.model, images=1) as engine,
            self.admission.admit(request.size),
        ):
            return await call(engine, record)

    async def handle_part(self, request: RpcRequest, engine: Engine, call: Call[_T]) -> _T:
        """Handle one image of a batch; the caller holds the batch's lease and its room.

        Raises:
            TextCamError: See the call.
        """
        with self._recorded(request) as record:
            return await call(engine, record)

    def reject(self, request: RpcRequest, error: TextCamError) -> TextCamError:
        """Record and rate-limit a request that is rejected before it is handled.

        Returns:
            The error to answer with: the given one, or the refusal of access that precedes it.
        """
        try:
            with self._recorded(request), self.lease(request.model, images=1):
                raise error
        except TextCamError as refusal:
            return refusal

    @contextmanager
    def counted(self, rpc: str) -> Iterator[None]:
        """Count a call that explains no image."""
        with self.failures_counted(rpc):
            yield
        self._finish(RequestRecord(rpc, caller=self._access.caller, code="OK"))

    @contextmanager
    def failures_counted(self, rpc: str, request_id: str = "") -> Iterator[None]:
        """Count a call that fails as a whole; one that succeeds is counted by its images."""
        try:
            yield
        except Exception as error:
            self._log_unexpected(error, rpc)
            self.count(rpc, code_of(error), reason_of(error), request_id)
            raise

    def count(self, rpc: str, code: Enum, reason: str, request_id: str = "") -> None:
        """Count and log the failure of a call that reached no image.

        Args:
            rpc: Name of the method.
            code: gRPC's code.
            reason: Reason of the error, for machines.
            request_id: Chosen by the client.
        """
        self._finish(
            RequestRecord(
                rpc,
                request_id[:MAX_REQUEST_ID],
                caller=self._access.caller,
                code=code.name,
                reason=reason,
            )
        )

    @contextmanager
    def lease(self, model: ModelRef, images: int = 0) -> Iterator[Engine]:
        """Keep the version that a request names open for as long as the context lasts.

        The caller's right to the model is checked before an error says anything of it.

        Args:
            model: The model that the request names.
            images: Number of images, charged to the caller's rate.

        Raises:
            AccessRefused: The caller may not use the model, or is over its rate.
            TextCamError: See ModelRegistry.lease.
        """
        name = self.models.resolve_name(model.name, self._access.can_see)
        self._access.authorize_model(name, images, named=bool(model.name))
        with self.models.lease(ModelRef(name, model.version), self._access.can_see) as engine:
            yield engine

    def model(self, model: ModelRef) -> ModelBundle:
        """Return a model for its description; raises as lease() does."""
        with self.lease(model) as engine:
            return engine.bundle

    def visible_models(self) -> list[ModelBundle]:
        """Return the served models that the caller may know of, in order of name."""
        return [own for own in self.models.current if self._access.can_see(own.name)]

    @contextmanager
    def _recorded(self, request: RpcRequest) -> Iterator[RequestRecord]:
        """Open a request's record, and close it with the code by which the request ends."""
        record = RequestRecord(
            request.rpc,
            request.request_id[:MAX_REQUEST_ID],
            request.size,
            self._access.caller,
        )
        self._tracer.begin(record, request.metadata)
        try:
            yield record
        except asyncio.CancelledError:
            if deadline_passed(request.deadline):
                self._close(record, "DEADLINE_EXCEEDED", DeadlineExpired.reason)
            else:
                self._close(record, "CANCELLED")
            raise
        except Exception as error:
            self._log_unexpected(error, f"request {record.request_id!r}")
            self._close(record, code_of(error).name, reason_of(error))
            raise
        self._close(record, "OK")

    def _close(self, record: RequestRecord, code: str, reason: str = "") -> None:
        record.code, record.reason = code, reason
        record.seconds = time.monotonic() - record.began
        self._metrics.request_seconds.labels(record.rpc, code).observe(record.seconds)
        self._tracer.end(record)
        self._finish(record)

    def _finish(self, record: RequestRecord) -> None:
        """Count a request that ended, and write its line of the log."""
        self._metrics.requests.labels(record.rpc, record.code).inc()
        self._access_log.write(record)

    def _log_unexpected(self, error: Exception, subject: str) -> None:
        if not isinstance(error, TextCamError):
            self._metrics.unexpected.inc()
            _log.error("%s failed unexpectedly", subject, exc_info=error)
