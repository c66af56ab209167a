"""The server's Prometheus metrics, and the callbacks that count in them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.telemetry.exposition import bundle_digests, describe
from textcam_service.serving.telemetry.metric_definitions import METRICS, STAGES


class Metrics:
    """The server's metrics in a registry of their own; see METRICS for their meanings."""

    requests: Counter
    request_seconds: Histogram
    stage_seconds: Histogram
    batch_size: Histogram
    queue_depth: Gauge
    in_flight: Gauge
    rejected: Counter
    restarts: Counter
    passes: Counter
    degraded: Counter
    expired: Counter
    cancelled: Counter
    unexpected: Counter
    images: Counter
    denied: Counter
    reloads: Counter
    stale: Gauge
    certificate_expiry: Gauge
    swaps: Counter
    load_failures: Counter
    pending: Gauge
    store_polled: Gauge
    drift: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for metric in METRICS:
            made = metric.kind(
                metric.name, metric.help, metric.labels, registry=self.registry, **metric.options
            )
            setattr(self, metric.attribute, made)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        self._bundles = describe(self.registry)

    def describe(self, bundle: ModelBundle) -> None:
        """Publish the digests of a served bundle."""
        self._bundles.labels(bundle.name).info(bundle_digests(bundle))

    # Callbacks of batchers (batching.events.BatcherEvents) and of reloaded files.

    def on_batch(self, size: int) -> None:
        """Called when a batch has run."""
        self.batch_size.observe(size)

    def on_expired(self) -> None:
        """Called when a deadline passed before the response."""
        self.expired.inc()

    def on_cancelled(self) -> None:
        """Called when a client left before its deadline."""
        self.cancelled.inc()

    def on_rejected(self, reason: str) -> None:
        """Called when an image is rejected."""
        self.rejected.labels(reason).inc()

    def on_denied(self, reason: str) -> None:
        """Called when a caller is refused, for its identity, its rights or its rate."""
        self.denied.labels(reason).inc()

    def on_reload(self, what: str, read: bool) -> None:
        """Called when certificates, callers or keys changed (auth.reloading.ReloadEvents)."""
        self.reloads.labels(what, "read" if read else "kept").inc()
        self.stale.labels(what).set(not read)

    def on_certificate(self, expires: float) -> None:
        """Called with the expiry of the served certificate (auth.tls.CertificateEvents)."""
        self.certificate_expiry.set(expires)

    def on_restart(self) -> None:
        """Called when a batcher's consumer died."""
        self.restarts.inc()


class QueueEvents:
    """Events of one of several batchers; the depths of their queues add up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._depth = 0
        self.on_batch = metrics.on_batch
        self.on_expired = metrics.on_expired
        self.on_cancelled = metrics.on_cancelled
        self.on_rejected = metrics.on_rejected
        self.on_restart = metrics.on_restart

    def on_depth(self, depth: int) -> None:
        """Called when the queue's length changed."""
        self._metrics.queue_depth.inc(depth - self._depth)
        self._depth = depth
