"""Loading of model bundles as the server's settings say."""

from __future__ import annotations

from pathlib import Path

from textcam_service.core.rationale.settings import WordingKind, WordSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.runtime.providers import DeviceOptions
from textcam_service.settings import ServerSettings


def load_bundle(
    settings: ServerSettings, name: str, backbone: Path, bank: Path, version: str
) -> ModelBundle:
    """Load a bundle with the settings' device, threads and choice of phrases.

    Args:
        settings: See ServerSettings.
        name: Name of the model.
        backbone: Folder of the backbone.
        bank: Folder of the concept bank.
        version: Version of the model; empty for digits of its digest.

    Raises:
        TextCamError: See ModelBundle.load.
    """
    return ModelBundle.load(
        name,
        backbone,
        bank,
        version=version,
        providers=settings.providers,
        threads=settings.session_threads,
        device=device_options(settings),
    ).with_words(word_settings(settings))


def device_options(settings: ServerSettings) -> DeviceOptions:
    """Return how backbones use their device."""
    return DeviceOptions(
        precision=settings.precision,
        engine_cache=settings.engine_cache,
        gpu_memory_limit=settings.gpu_memory_limit,
        max_batch=settings.max_batch,
    )


def word_settings(settings: ServerSettings) -> WordSettings:
    """Return how phrases are chosen."""
    wording: WordingKind | None = "embeddings" if settings.direction == "lda" else None
    return WordSettings(wording, settings.min_probability)
