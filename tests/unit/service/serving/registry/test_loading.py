"""The settings decide the device of a model, and its choice of phrases."""

import pytest
from textcam_service.core.rationale.settings import WordSettings
from textcam_service.errors import InvalidSettings
from textcam_service.runtime.providers import DeviceOptions
from textcam_service.serving.registry.loading import device_options, word_settings
from textcam_service.settings import read_settings


def test_the_settings_say_how_a_device_is_used():
    flags = {"precision": "fp16", "engine_cache": "/e", "gpu_memory_limit": 5, "max_batch": 16}
    assert device_options(read_settings(flags)) == DeviceOptions("fp16", "/e", 5, 16)
    assert device_options(read_settings({})).in_graph is None  # decided by the device
    with pytest.raises(InvalidSettings, match="precision"):
        read_settings({"precision": "fp8"})


def test_the_settings_say_how_phrases_are_chosen():
    assert word_settings(read_settings({})) == WordSettings()
    assert word_settings(read_settings({"direction": "lda"})) == WordSettings("embeddings")
    sure = word_settings(read_settings({"min_probability": 0.5}))
    assert (sure.wording, sure.min_probability) == (None, 0.5)
