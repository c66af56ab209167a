"""Prometheus metrics, each with its meaning; names follow Prometheus' conventions."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    start_http_server,
)
from prometheus_client.process_collector import ProcessCollector

from textcam_service.errors import InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
STAGES = ("decode", "queue", "inference", "attribution", "rationale", "encode")


class Metrics:
    """The server's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "textcam_requests_total",
            "Requests answered, by method and gRPC code; items of a stream count one by one.",
            ("method", "code"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "textcam_request_duration_seconds",
            "Time of an image's request in the server, by method and gRPC code of its answer.",
            ("method", "code"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "textcam_stage_duration_seconds",
            "Time of a caller's request in each stage: decode, queue, inference, attribution, "
            "rationale, encode.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "textcam_batch_size_images",
            "Images per inference, those of warm-ups and canaries too.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "textcam_queue_depth_images",
            "Images that wait for inference.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "textcam_requests_in_flight",
            "Requests in work.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.rejected = Counter(
            "textcam_rejected_total",
            "Requests refused by overload, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.restarts = Counter(
            "textcam_batcher_restarts_total",
            "Times that the part which runs batches died and was started again.",
            registry=self.registry,
        )
        self.passes = Counter(
            "textcam_method_passes_total",
            "Passes of network and head that CAM methods took beyond the first, for warm-ups and "
            "canaries too.",
            ("method",),
            registry=self.registry,
        )
        self.degraded = Counter(
            "textcam_degraded_total",
            "Answers made smaller under pressure, as their requests allowed, by what was left out.",
            ("step",),
            registry=self.registry,
        )
        self.expired = Counter(
            "textcam_expired_total",
            "Images whose deadline passed before their answer was made.",
            registry=self.registry,
        )
        self.cancelled = Counter(
            "textcam_cancelled_total",
            "Images whose caller left before the answer, and before their deadline.",
            registry=self.registry,
        )
        self.unexpected = Counter(
            "textcam_unexpected_errors_total",
            "Failures that no domain error describes; the log holds each traceback.",
            registry=self.registry,
        )
        self.images = Counter(
            "textcam_images_decoded_total",
            "Callers' images by decoder.",
            ("decoder",),
            registry=self.registry,
        )
        self.denied = Counter(
            "textcam_denied_total",
            "Calls and images refused for who asks: UNAUTHENTICATED, PERMISSION_DENIED, "
            "RATE_LIMITED.",
            ("reason",),
            registry=self.registry,
        )
        self.reloads = Counter(
            "textcam_reloads_total",
            "Changes of certificates, callers or JWT keys on disk; outcome `kept`: broken, the "
            "old ones stay.",
            ("what", "outcome"),
            registry=self.registry,
        )
        self.stale = Gauge(
            "textcam_reload_stale",
            "1 where the newest certificates, callers or JWT keys on disk cannot be used and older "
            "ones are.",
            ("what",),
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "textcam_tls_certificate_expiry_timestamp_seconds",
            "When the served certificate expires, or one of its chain, whichever is first; 0: no "
            "TLS.",
            multiprocess_mode="livemin",
            registry=self.registry,
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        self._add_store()
        self.bundles = describe(self.registry)

    def _add_store(self) -> None:
        self.swaps = Counter(
            "textcam_model_swaps_total",
            "Times that a model's version was loaded, warmed and switched to.",
            ("model",),
            registry=self.registry,
        )
        self.load_failures = Counter(
            "textcam_model_load_failures_total",
            "Times that the store's current version could not be served, by reason; the version "
            "before it stays. STORE_FAILED without a model: the store could not be looked at.",
            ("model", "reason"),
            registry=self.registry,
        )
        self.pending = Gauge(
            "textcam_model_pending",
            "1 while the store's current version of a model is not the served one.",
            ("model",),
            multiprocess_mode="livemax",
            registry=self.registry,
        )
        self.looked = Gauge(
            "textcam_store_look_timestamp_seconds",
            "When the store was last looked at with success, or the watch began; 0: no store.",
            multiprocess_mode="livemin",
            registry=self.registry,
        )
        self.drift = Gauge(
            "textcam_canary_drift",
            "What the last canary found between the served version and the one to follow it: "
            "map_correlation, same_phrase, same_class, share_difference.",
            ("model", "measure"),
            multiprocess_mode="mostrecent",
            registry=self.registry,
        )

    def describe(self, bundle: ModelBundle) -> None:
        """Publish what is served."""
        self.bundles.labels(bundle.name).info(bundle_digests(bundle))

    # What a batcher reports (serving.events.BatcherEvents).

    def on_batch(self, size: int) -> None:
        """An inference ended."""
        self.batch_size.observe(size)

    def on_expired(self) -> None:
        """A deadline passed before the answer."""
        self.expired.inc()

    def on_cancelled(self) -> None:
        """A caller left before their deadline."""
        self.cancelled.inc()

    def on_rejected(self, reason: str) -> None:
        """An image was refused."""
        self.rejected.labels(reason).inc()

    def on_denied(self, reason: str) -> None:
        """Someone may not call, or not so often."""
        self.denied.labels(reason).inc()

    def on_reload(self, what: str, read: bool) -> None:
        """Files of certificates, callers or keys changed (serving.reloading.ReloadEvents)."""
        self.reloads.labels(what, "read" if read else "kept").inc()
        self.stale.labels(what).set(not read)

    def on_certificate(self, expires: float) -> None:
        """The served certificate is valid until then (serving.tls.CertificateEvents)."""
        self.certificate_expiry.set(expires)

    def on_restart(self) -> None:
        """The batcher died."""
        self.restarts.inc()


class QueueEvents:
    """What one of several batchers reports: the depths of their queues add up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._depth = 0
        self.on_batch = metrics.on_batch
        self.on_expired = metrics.on_expired
        self.on_cancelled = metrics.on_cancelled
        self.on_rejected = metrics.on_rejected
        self.on_restart = metrics.on_restart

    def on_depth(self, depth: int) -> None:
        """The queue's length changed."""
        self._metrics.queue_depth.inc(depth - self._depth)
        self._depth = depth


def bundle_digests(bundle: ModelBundle) -> dict[str, str]:
    """What a bundle is, in labels."""
    return {
        "version": bundle.version,
        "backbone_digest": bundle.backbone.manifest.weights_digest,
        "bank_digest": bundle.artefact.bank_digest,
        "vocabulary_digest": bundle.artefact.vocabulary_digest,
        "execution_provider": bundle.backbone.execution_provider,
        "precision": bundle.backbone.precision,
    }


def describe(registry: CollectorRegistry) -> Info:
    """Publish by which build is served; returns what tells of each served bundle."""
    Info("textcam_build", "Version of the service.", registry=registry).info(
        {"version": __version__}
    )
    return Info(
        "textcam_bundle",
        "The served bundles: their digests, and where and in what precision they run.",
        ("model",),
        registry=registry,
    )


def worker_restarts(registry: CollectorRegistry) -> Counter:
    """What the process counts that watches over several servers."""
    return Counter(
        "textcam_worker_restarts_total",
        "Server processes that died and were started again; with `workers` above 1.",
        registry=registry,
    )


def publish(
    registry: CollectorRegistry, settings: ServerSettings
) -> tuple[int | None, Callable[[], None]]:
    """Serve /metrics; returns the port (None: nothing is served) and what stops it.

    Raises:
        InvalidSettings: The port is taken.
    """
    if settings.metrics_port < 0:
        return None, lambda: None
    try:
        http, thread = start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise InvalidSettings(
            f"metrics cannot listen on {settings.address(settings.metrics_port)}: "
            f"{error.strerror}; choose another --metrics-port, or -1 for none"
        ) from error

    def stop() -> None:
        http.shutdown()
        http.server_close()
        thread.join()

    return http.server_port, stop
