"""Loading: parts that match, methods that the backbone supports, settings of phrases."""

from dataclasses import replace

import numpy as np
import pytest
from small_models import write_model
from textcam_service.core.rationale.settings import WordSettings
from textcam_service.errors import BundleMismatch, UnsupportedMethod
from textcam_service.model.bundle import ModelBundle


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [write_model(folder / str(seed), seed) for seed in (1, 2)]


def load(backbone, bank):
    return ModelBundle.load("m", backbone / "backbone", bank / "bank", threads=1)


def test_a_bank_of_another_backbone_is_refused(models):
    with pytest.raises(BundleMismatch, match=r"was built for backbone .*build a bank for it"):
        load(models[0], models[1])


def test_words_replace_the_bank_s_settings_and_nothing_else(models):
    bundle = load(models[0], models[0])
    changed = bundle.with_words(WordSettings("embeddings", 0.7))
    assert (changed.settings.wording, changed.settings.min_probability) == ("embeddings", 0.7)
    assert changed.settings.prior == bundle.settings.prior
    assert (changed.version, changed.backbone) == (bundle.version, bundle.backbone)
    assert bundle.with_words(WordSettings()).settings == bundle.settings


def test_each_channel_belongs_to_the_phrase_that_it_supports_most(models):
    bundle = load(models[0], models[0])
    supports = bundle.wording.supports(np.arange(len(bundle.phrases)))
    assert len(bundle.channel_phrases) == len(supports)
    for own, phrase in zip(supports, bundle.channel_phrases.tolist(), strict=True):
        if phrase == -1:
            assert own.max() < bundle.wording.min_support
        else:
            assert own[phrase] == own.max() >= bundle.wording.min_support


def test_a_linear_head_is_explained_by_cam_unless_another_is_chosen(models):
    bundle = load(models[0], models[0])
    assert bundle.default_method.name == "cam"
    assert replace(bundle, method_name="grad_cam").default_method.name == "grad_cam"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crayon_cam", "there is no method 'crayon_cam'"),
        ("legrad", "LeGrad needs attention .*model 'm' has none"),
    ],
)
def test_a_method_that_is_not_supported_is_refused_with_those_that_are(models, name, said):
    bundle = load(models[0], models[0])
    with pytest.raises(UnsupportedMethod, match=f"{said}; it supports cam, ") as refused:
        bundle.method(name, "method")
    assert refused.value.field == "method"


def test_provenance_states_settings_precision_and_resampler(models):
    parameters = load(models[0], models[0]).parameters()
    assert parameters["rationale.prior"] == "0.0"
    assert parameters["precision"] == "float32"
    assert "resampler" in parameters
