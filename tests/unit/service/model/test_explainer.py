"""In-process explanation of one image, with a small real model."""

import numpy as np
import pytest
from small_models import SIDE, write_model
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import (
    attribute,
    make_rationale,
    method_input,
    predicted_evidence,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("model"), 3)
    return ModelBundle.load("m", folder / "backbone", folder / "bank", threads=1)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).normal(size=(3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def output(bundle, image):
    return bundle.backbone.forward(image[None])[0]


def prediction(bundle, output, index):
    return predictions(output.logits, bundle.class_names, [index])[0]


def test_the_score_of_a_contrast_is_the_difference_of_two_logits(bundle, output, image):
    target, reference = (prediction(bundle, output, index) for index in (1, 4))
    alone = method_input(bundle, output, image, target, None)
    contrast = method_input(bundle, output, image, target, reference)
    assert alone.score(output.logits) == pytest.approx(target.logit)
    assert contrast.score(output.logits) == pytest.approx(target.logit - reference.logit)
    np.testing.assert_array_equal(alone.head_weights, bundle.backbone.head_weights)


def test_attribution_of_a_linear_head_adds_up_to_the_logit(bundle, output, image):
    target = prediction(bundle, output, 2)
    terms = attribute(bundle, output, image, target, None)
    scores = output.activation_maps.mean(axis=(1, 2))
    assert float(terms.weights @ scores) == pytest.approx(target.logit, abs=1e-4)


def test_a_rationale_takes_the_reference_s_logit_and_bias_off(bundle, output, image):
    target, reference = (prediction(bundle, output, index) for index in (0, 3))
    terms = attribute(bundle, output, image, target, reference)
    rationale = make_rationale(bundle, output, terms, target, reference, PhraseFilter(2))
    evidence = sum(phrase.evidence for phrase in rationale.phrases) + rationale.rest.evidence
    whole = rationale.bias + rationale.gap + evidence
    assert whole == pytest.approx(target.logit - reference.logit, abs=1e-4)


def test_evidence_is_of_the_predicted_class(bundle, output, image):
    evidence = predicted_evidence(bundle.backbone, output, image)
    best = int(output.logits.argmax())
    scores = output.activation_maps.mean(axis=(1, 2))
    np.testing.assert_allclose(evidence, bundle.backbone.head_weights[best] * scores, atol=1e-5)
