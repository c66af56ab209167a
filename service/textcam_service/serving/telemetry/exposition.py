"""Exposition of the metrics: build and bundle information, and the HTTP endpoint /metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Info, start_http_server

from textcam_service.errors import InvalidSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__


def bundle_digests(bundle: ModelBundle) -> dict[str, str]:
    """Return the labels that identify a bundle: its digests, device and precision."""
    return {
        "version": bundle.version,
        "backbone_digest": bundle.backbone.manifest.weights_digest,
        "bank_digest": bundle.artefact.bank_digest,
        "vocabulary_digest": bundle.artefact.vocabulary_digest,
        "execution_provider": bundle.backbone.execution_provider,
        "precision": bundle.backbone.precision,
    }


def describe(registry: CollectorRegistry) -> Info:
    """Register and set the build's version; return the metric that identifies the bundles."""
    Info("textcam_build", "Version of the service.", registry=registry).info(
        {"version": __version__}
    )
    return Info(
        "textcam_bundle",
        "Served bundles: digests, execution provider and precision.",
        ("model",),
        registry=registry,
    )


def worker_restarts(registry: CollectorRegistry) -> Counter:
    """Register and return the counter of the process that supervises several servers."""
    return Counter(
        "textcam_worker_restarts_total",
        "Server processes that died and were restarted; only with `workers` above 1.",
        registry=registry,
    )


def publish(
    registry: CollectorRegistry, settings: ServerSettings
) -> tuple[int | None, Callable[[], None]]:
    """Serve /metrics over HTTP.

    Returns:
        The port, None if the settings disable the endpoint; and a function that stops it.

    Raises:
        InvalidSettings: The port is in use.
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
