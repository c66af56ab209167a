"""Choice of the tracer by the settings."""

from __future__ import annotations

from collections.abc import Mapping

from textcam_service.errors import MissingExtra
from textcam_service.serving.telemetry.tracing import NoopTracer, Tracer
from textcam_service.settings import ServerSettings


def make_tracer(settings: ServerSettings, method_names: Mapping[str, str]) -> Tracer:
    """Make the tracer that the settings select.

    Args:
        settings: See ServerSettings.
        method_names: Full names of the traced methods, by short name.

    Raises:
        MissingExtra: An endpoint is set, but OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return NoopTracer()
    try:
        from textcam_service.serving.telemetry.otlp import OtlpTracer  # noqa: PLC0415 - extra 'tracing'
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"otlp_endpoint needs the extra 'tracing' ({error.name} is not installed): "
            "pip install 'textcam-service[tracing]', or leave the setting empty"
        ) from error
    return OtlpTracer(settings.otlp_endpoint, settings.trace_sample_ratio, method_names)
