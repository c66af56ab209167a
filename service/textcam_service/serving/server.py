"""Life cycle of a server: warm up, listen, serve, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.auth.authorization import Authorizer
from textcam_service.serving.auth.reloading import watch
from textcam_service.serving.auth.tls import Certificates
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.contract import (
    EXPLAINER,
    GRANTABLE_METHODS,
    METHOD_NAMES,
    OPEN_INFERENCE,
)
from textcam_service.serving.grpc.health import Health
from textcam_service.serving.grpc.interceptors.access import AccessInterceptor
from textcam_service.serving.grpc.interceptors.active_calls import ActiveCalls
from textcam_service.serving.grpc.interceptors.decoding import DecodingInterceptor
from textcam_service.serving.grpc.listening import bind, channel_options
from textcam_service.serving.grpc.services import add_services
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.registry.watcher import Watcher
from textcam_service.serving.telemetry.exposition import bundle_digests, publish
from textcam_service.serving.telemetry.metrics import Metrics
from textcam_service.serving.telemetry.tracers import make_tracer
from textcam_service.settings import ServerSettings

Digests: TypeAlias = "dict[str, dict[str, str]]"
"""Labels that identify each served bundle, by model."""
_LAST_CALLS_S = 0.25
_LAST_BYTES_S = 2.0
_PROBE_BYTES = 4096
# Health service names: MODEL_HEALTH + "NAME" is whether a model is loaded and warm. There are none
# if callers have rights to models, because health is open to everyone.
MODEL_HEALTH = "textcam.model/"


class Server:
    """A server that can be started and stopped.

    Args:
        bundle: The served model; None to serve the models of the settings' store.
        settings: See ServerSettings.
        on_switch: Called after each switch with the labels of the served bundles, by model.
        joins: Whether other processes serve on the port already. Then it listens only once it
            serves a model, because every listening process gets connections.

    Attributes:
        port: Port of gRPC, once started.
        metrics_port: Port of /metrics, once started; None if it is disabled.
        health_port: Port of the separate health service, once started; None if it is disabled.
        models: The served models.
    """

    def __init__(
        self,
        bundle: ModelBundle | None,
        settings: ServerSettings,
        on_switch: Callable[[Digests], None] = lambda _: None,
        joins: bool = False,
    ) -> None:
        self.port = 0
        self.metrics_port: int | None = None
        self.health_port: int | None = None
        self._settings = settings
        self._metrics = Metrics()
        self._bundle = bundle
        self._tracer = make_tracer(settings, METHOD_NAMES)
        self.models = ModelRegistry(settings, self._metrics, self._update_health, self._tracer)
        self._authorizer = Authorizer(settings, self._metrics, GRANTABLE_METHODS)
        self._dataplane = DataPlane(
            self.models, settings, self._metrics, self._authorizer, self._tracer
        )
        self._decoding = DecodingInterceptor(self._dataplane.count)
        self._calls = ActiveCalls()
        self._on_switch = on_switch
        self._joins = joins
        self._watcher: Watcher | None = None
        self._watch: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._health = Health()
        self._stop_metrics: Callable[[], None] = lambda: None
        self._server: Any = None
        self._health_server: Any = None
        self._started = self._stopping = False

    @property
    def digests(self) -> Digests:
        """Labels that identify the served bundles, by model."""
        return {bundle.name: bundle_digests(bundle) for bundle in self.models.current}

    async def start(self) -> None:
        """Warm up, listen, and then report SERVING.

        A server with a store listens first, unless it joins others. It reports SERVING only once
        every model of the store was tried.

        Raises:
            InvalidSettings: A port is in use, certificates are not usable, or the kind of store is
                unknown.
        """
        certificates = None
        if self._settings.tls_certificate is not None:
            certificates = Certificates(self._settings, self._metrics)
        if self._bundle is not None:
            engine = self.models.engine(self._bundle)
            await engine.start()
        else:
            self._watcher = Watcher(
                self.models, self._settings, self._metrics, lambda: self._on_switch(self.digests)
            )
            if self._joins:
                await self._watcher.poll_until_served()
        await self._start_services(certificates and certificates.credentials)
        if certificates or self._authorizer.guards:
            polls = [self._authorizer.poll, *([certificates.poll] if certificates else [])]
            self._renewal = asyncio.create_task(watch(*polls), name="textcam-files")
        if self._bundle is not None:
            self.models.promote(engine)
        if self._watcher is not None:
            if not self._joins:
                await self._watcher.poll()
            self._watch = asyncio.create_task(self._watcher.run(), name="textcam-watcher")
        self._started = True
        self._update_health()

    async def _start_services(self, credentials: Any) -> None:
        """Start all services on the settings' ports."""
        settings = self._settings
        access = AccessInterceptor(self._authorizer, self._metrics, self._dataplane.count)
        self._server = grpc.aio.server(
            # Calls are tracked within the access check, which handles each call as a stream.
            interceptors=[
                *([access] if self._authorizer.guards else []),
                self._calls,
                self._decoding,
            ],
            options=channel_options(settings, settings.max_message_bytes),
        )
        add_services(self._server, self._dataplane, settings, self._health, self._is_serving)
        self.port = bind(self._server, settings.address(settings.port), credentials)
        await self._start_health()
        self.metrics_port, self._stop_metrics = publish(self._metrics.registry, settings)
        await self._server.start()
        self._update_health()

    async def _start_health(self) -> None:
        """Start the separate health service, for probes without a client certificate."""
        settings = self._settings
        if settings.health_port < 0:
            return
        self._health_server = grpc.aio.server(
            interceptors=[self._decoding], options=channel_options(settings, _PROBE_BYTES)
        )
        self._health.add_to(self._health_server)
        self.health_port = bind(self._health_server, settings.address(settings.health_port))
        await self._health_server.start()

    async def stop(self) -> None:
        """Report NOT_SERVING, reject new requests, finish and deliver the others, and stop."""
        until = time.monotonic() + self._settings.drain_seconds
        self._stopping = True
        self._update_health()
        self._dataplane.admission.stop()
        if self._watch is not None:
            self._watch.cancel()
        # Calls on their way are still rejected with an error, not by a closed connection.
        await asyncio.sleep(_LAST_CALLS_S)
        await self._dataplane.admission.drained(until - time.monotonic())
        # Large responses may still be in transit. A connection's GOAWAY, which its client
        # acknowledges, follows their last bytes: until then it must stay open.
        await self._calls.wait_unary(until - time.monotonic())
        if self._server is not None:
            # These end only here: watches of the health, and streams without an item.
            self._health.end()
            ending = asyncio.create_task(self._calls.end_streams(_LAST_BYTES_S))
            patience_s = max(_LAST_BYTES_S, until - time.monotonic())
            stopping = asyncio.create_task(self._server.stop(patience_s))
            # gRPC itself would wait forever for clients that read nothing.
            await asyncio.wait([stopping, ending], timeout=patience_s + _LAST_BYTES_S)
        if self._watch is not None:
            await asyncio.wait([self._watch])
        await self.models.close(max(0.0, until - time.monotonic()))
        if self._watcher is not None:
            self._watcher.close()
        if self._health_server is not None:
            await self._health_server.stop(None)
        if self._renewal is not None:
            self._renewal.cancel()
        await asyncio.to_thread(self._tracer.close)
        self._stop_metrics()

    def _is_serving(self, name: str = "") -> bool:
        # The whole server only once every model of the store was tried; a single model sooner.
        tried = self._started or bool(name)
        return tried and not self._stopping and self.models.is_ready(name)

    def _update_health(self) -> None:
        models = dict.fromkeys(("", EXPLAINER, OPEN_INFERENCE), "")
        if not self._authorizer.limits_models:
            models |= {MODEL_HEALTH + name: name for name in self.models.names}
        for service, model in models.items():
            self._health.set(service, self._is_serving(model))
