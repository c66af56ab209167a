"""The server process: load, warm up, serve, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import grpc
from grpc_reflection.v1alpha import reflection
from textcam.oip import open_inference_pb2, open_inference_pb2_grpc
from textcam.v1 import explainer_pb2, explainer_pb2_grpc
from threadpoolctl import threadpool_limits

from textcam_service.errors import InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.auth.authorization import AccessInterceptor, Authorizer
from textcam_service.serving.auth.reloading import watch
from textcam_service.serving.auth.tls import Certificates
from textcam_service.serving.dataplane import DataPlane
from textcam_service.serving.grpc.explainer.servicer import ExplainerServicer
from textcam_service.serving.grpc.health import SERVICE_NAME as HEALTH
from textcam_service.serving.grpc.health import Health
from textcam_service.serving.grpc.interceptors.active_calls import ActiveCalls
from textcam_service.serving.grpc.interceptors.decoding import DecodingInterceptor
from textcam_service.serving.grpc.oip.servicer import OpenInferenceServicer
from textcam_service.serving.memory import freeze_gc, trim_periodically
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.serving.registry.watcher import Watcher
from textcam_service.serving.telemetry.metrics import Metrics, bundle_digests, publish
from textcam_service.serving.telemetry.tracing import make_tracer
from textcam_service.settings import ServerSettings

# By model: what its bundle is, in labels.
_Digests: TypeAlias = "dict[str, dict[str, str]]"
_log = logging.getLogger(__name__)
_LAST_CALLS_S = 0.25
_LAST_BYTES_S = 2.0
_PROBE_BYTES = 4096
_UNCOMPRESSED = 1  # the bit of gRPC's algorithms that stands for none
_MOST_CALLS = 1024  # of a connection
SERVICE = explainer_pb2.DESCRIPTOR.services_by_name["ExplainerService"].full_name
OPEN_INFERENCE = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# Beside the services' own names: MODEL_HEALTH + "NAME" says whether a model is loaded and warm;
# not where callers have rights to models, for health is answered to all.
MODEL_HEALTH = "textcam.model/"


class Server:
    """A server that can be started and stopped.

    Args:
        bundle: What is served; None: what the store of the settings holds.
        settings: See ServerSettings.
        switched: Told the digests of what is served, by model, after each switch.
        joins: Whether others serve on the port already: then it listens only once it serves a
            model, for connections come to whoever listens.

    Attributes:
        port: Where gRPC listens, once started.
        metrics_port: Where /metrics listens, once started; None where it does not.
        health_port: Where health alone listens, once started; None where it does not.
        models: What is served.
    """

    def __init__(
        self,
        bundle: ModelBundle | None,
        settings: ServerSettings,
        switched: Callable[[_Digests], None] = lambda _: None,
        joins: bool = False,
    ) -> None:
        self.port = 0
        self.metrics_port: int | None = None
        self.health_port: int | None = None
        self._settings = settings
        self._metrics = Metrics()
        self._bundle = bundle
        self._tracer = make_tracer(settings)
        self.models = ModelRegistry(settings, self._metrics, self._say, self._tracer)
        self._access = Authorizer(settings, self._metrics)
        self._dataplane = DataPlane(
            self.models, settings, self._metrics, self._access, self._tracer
        )
        self._decoding = DecodingInterceptor(self._dataplane.count)
        self._calls = ActiveCalls()
        self._switched = switched
        self._joins = joins
        self._watcher: Watcher | None = None
        self._watch: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._health = Health()
        self._stop_metrics: Callable[[], None] = lambda: None
        self._server: Any = None
        self._probed: Any = None
        self._started = self._stopping = False

    @property
    def digests(self) -> _Digests:
        """Of what is served, by model."""
        return {bundle.name: bundle_digests(bundle) for bundle in self.models.bundles}

    async def start(self) -> None:
        """Warm up, listen, and only then say SERVING.

        A server of a store listens first, unless it joins others: a model of it that cannot be had
        yet keeps it from SERVING, and is waited for.

        Raises:
            InvalidSettings: A port is taken, certificates cannot be used, or there is no such
                kind of store.
        """
        certificates = None
        if self._settings.tls_certificate is not None:
            certificates = Certificates(self._settings, self._metrics)
        if self._bundle is not None:
            engine = self.models.engine(self._bundle)
            await engine.start()
        else:
            self._watcher = Watcher(
                self.models, self._settings, self._metrics, lambda: self._switched(self.digests)
            )
            if self._joins:
                await self._watcher.look_until_served()
        await self._start_services(certificates and certificates.credentials)
        if certificates or self._access.guards:
            looks = [self._access.look, *([certificates.look] if certificates else [])]
            self._renewal = asyncio.create_task(watch(*looks), name="textcam-files")
        if self._bundle is not None:
            self.models.put(engine)
        if self._watcher is not None:
            if not self._joins:
                await self._watcher.look()
            self._watch = asyncio.create_task(self._watcher.run(), name="textcam-watcher")
        self._started = True
        self._say()

    async def _start_services(self, credentials: Any) -> None:
        """All services, on the ports of the settings."""
        settings = self._settings
        guard = AccessInterceptor(self._access, self._metrics, self._dataplane.count)
        self._server = grpc.aio.server(
            # Calls within the guard, which takes each call as a stream: there one answer is one.
            interceptors=[
                *([guard] if self._access.guards else []),
                self._calls,
                self._decoding,
            ],
            options=_options(settings, settings.max_message_bytes),
        )
        explainer_pb2_grpc.add_ExplainerServiceServicer_to_server(  # type: ignore[no-untyped-call]
            ExplainerServicer(self._dataplane, settings), self._server
        )
        open_inference = OpenInferenceServicer(self._dataplane, settings, self._is_serving)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
            open_inference, self._server
        )
        self._health.add_to(self._server)
        names = (SERVICE, OPEN_INFERENCE, HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = _listen(self._server, settings.address(settings.port), credentials)
        await self._start_health()
        self.metrics_port, self._stop_metrics = publish(self._metrics.registry, settings)
        await self._server.start()
        self._say()

    async def _start_health(self) -> None:
        """The health service alone, for probes that cannot show a certificate."""
        settings = self._settings
        if settings.health_port < 0:
            return
        self._probed = grpc.aio.server(
            interceptors=[self._decoding], options=_options(settings, _PROBE_BYTES)
        )
        self._health.add_to(self._probed)
        self.health_port = _listen(self._probed, settings.address(settings.health_port))
        await self._probed.start()

    async def stop(self) -> None:
        """Say NOT_SERVING, refuse new work, finish what is in work, deliver it, stop."""
        until = time.monotonic() + self._settings.drain_seconds
        self._stopping = True
        self._say()
        self._dataplane.stop_admitting()
        if self._watch is not None:
            self._watch.cancel()
        # Calls that are on their way are still refused in words, not by a connection that ends.
        await asyncio.sleep(_LAST_CALLS_S)
        await self._dataplane.drained(until - time.monotonic())
        # Large answers may be on their way yet. The farewell of each connection, which its caller
        # acknowledges, comes behind their last bytes: until then it must stay.
        await self._calls.answered(until - time.monotonic())
        if self._server is not None:
            # What callers never end is: watches of the health, and streams without an item.
            self._health.end()
            ending = asyncio.create_task(self._calls.end_streams(_LAST_BYTES_S))
            patience_s = max(_LAST_BYTES_S, until - time.monotonic())
            stopping = asyncio.create_task(self._server.stop(patience_s))
            # gRPC itself would wait for ever for who takes none of the bytes.
            await asyncio.wait([stopping, ending], timeout=patience_s + _LAST_BYTES_S)
        if self._watch is not None:
            await asyncio.wait([self._watch])
        await self.models.close(max(0.0, until - time.monotonic()))
        if self._watcher is not None:
            self._watcher.close()
        if self._probed is not None:
            await self._probed.stop(None)
        if self._renewal is not None:
            self._renewal.cancel()
        await asyncio.to_thread(self._tracer.close)
        self._stop_metrics()

    def _is_serving(self, name: str = "") -> bool:
        # The whole server only once each model of the store had its try; a model by itself sooner.
        begun = self._started or bool(name)
        return begun and not self._stopping and self.models.is_ready(name)

    def _say(self) -> None:
        told = dict.fromkeys(("", SERVICE, OPEN_INFERENCE), "")
        if not self._access.limits_models:
            told |= {MODEL_HEALTH + name: name for name in self.models.names}
        for service, model in told.items():
            self._health.set(service, self._is_serving(model))


def _options(settings: ServerSettings, most_received: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", most_received),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A message's size is compared before it is inflated, a thousandfold at worst.
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
        # Calls above max_concurrent are refused in words, up to here. Who opened and reset them
        # without end would stop the event loop for seconds.
        ("grpc.max_concurrent_streams", max(_MOST_CALLS, 2 * settings.max_concurrent)),
        # Two processes on one port must be a choice, not an accident.
        ("grpc.so_reuseport", int(settings.workers > 1)),
        # Clients that are gone without a word are found out within a minute or so, also those that
        # never said one, and those without a call.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # And clients find out in seconds whether this server is: more often is refused.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        *_connection_age(settings.max_connection_age_s),
    ]


def _listen(server: Any, address: str, credentials: Any = None) -> int:
    """Bind; returns the port. Plaintext without credentials."""
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise InvalidSettings(f"cannot listen on {address}: is the port taken?") from error


def _connection_age(seconds: float) -> list[tuple[str, int]]:
    """Connections end at that age, so that balanced clients find new replicas; calls go on."""
    if not seconds:
        return []
    grace = ("grpc.max_connection_age_grace_ms", 600_000)
    return [("grpc.max_connection_age_ms", int(1000 * seconds)), grace]


def _bundle(settings: ServerSettings) -> ModelBundle:
    return ModelBundle.load(
        settings.name,
        settings.backbone,
        settings.bank,
        version=settings.version,
        providers=settings.providers,
        threads=settings.session_threads,
        device=settings.device,
    ).with_words(settings.words)


async def serve(
    settings: ServerSettings,
    announce: Callable[[Server], None],
    parent: Connection | None = None,
    switched: Callable[[_Digests], None] = lambda _: None,
    joins: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: See ServerSettings.
        announce: Told once the server serves.
        parent: A pipe to the process that started this one; where it closes, the parent is gone.
        switched: See Server.
        joins: See Server.
    """
    # The arithmetic of one image is too small to share: BLAS threads would only spin.
    threadpool_limits(limits=1, user_api="blas")
    # What Pillow thinks of callers' images is not for this log, and Python keeps each new wording.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    server = Server(None if settings.store else _bundle(settings), settings, switched, joins)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent is not None:
        loop.add_reader(parent.fileno(), stop.set)
    trimming = asyncio.create_task(trim_periodically(), name="textcam-memory")
    if await _started(server, stop):
        freeze_gc()
        announce(server)
        await stop.wait()
    trimming.cancel()
    _log.info("draining for at most %.0f s", settings.drain_seconds)
    await server.stop()


async def _started(server: Server, stop: asyncio.Event) -> bool:
    """Start it; False where it was stopped before. A server of a store answers before it is."""
    starting = asyncio.create_task(server.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        stopped.cancel()
        await starting  # raises what it raised
        return True
    starting.cancel()
    await asyncio.wait([starting])
    return False
