"""Fits of a calibration, against scikit-learn and planted problems."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import (
    _logistic,
    fit_calibration,
    fit_chosen,
    fit_temperature,
    with_reliability,
)

MADE = Calibration(
    mean=np.array([0.1, -0.2, 0.0], np.float32),
    deviation=0.05,
    prior=np.array([0.2, 0.01, 0.0], np.float32),
    grounded=np.array([True, True, False]),
    slope=2.0,
    prior_weight=0.9,
    offset=-0.5,
    temperature=0.0,
    source="labels",
    images=40,
)


def log_odds(p):
    return np.log((p + 1e-3) / (1 - p + 1e-3))


def chance(odds):
    return 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_the_logistic_fit_is_scikit_learns_on_soft_labels(ridge):
    """A soft label is there a row that is true and one that is not, weighed by it."""
    rng = np.random.default_rng(3)
    terms = np.stack([rng.standard_normal(500), rng.normal(-2, 1, 500), np.ones(500)], axis=1)
    labels = chance(terms @ [1.3, 0.7, -0.4] + rng.standard_normal(500))
    reference = LogisticRegression(
        C=1 / ridge if ridge else np.inf, fit_intercept=False, tol=1e-10, max_iter=1000
    ).fit(
        np.concatenate([terms, terms]),
        np.repeat([1, 0], 500),
        sample_weight=np.concatenate([labels, 1 - labels]),
    )
    assert _logistic(terms, labels, ridge) == pytest.approx(reference.coef_[0], abs=1e-4)


def test_a_fit_that_separates_its_labels_does_not_run_away():
    terms = np.stack([np.arange(-10.0, 10), np.ones(20)], axis=1)
    found = _logistic(terms, (terms[:, 0] >= 0).astype(float))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 50


def test_labels_that_follow_the_model_give_its_numbers_back():
    rng = np.random.default_rng(0)
    prior = rng.uniform(0.02, 0.6, 8)
    projected = rng.normal(0.3, 0.1, (400, 8)) * rng.uniform(0.5, 2, 8)
    scores = (projected - projected.mean(axis=0)) / np.exp(np.log(projected.std(axis=0)).mean())
    labels = chance(1.7 * scores + 0.8 * log_odds(prior) - 0.3)
    found = fit_calibration(projected, labels, prior, "labels")
    assert [found.slope, found.prior_weight, found.offset] == pytest.approx(
        [1.7, 0.8, -0.3], abs=1e-3
    )
    assert found.scores(projected) == pytest.approx(scores, abs=1e-4)
    assert found.by_evidence(found.scores(projected)) == pytest.approx(labels, abs=1e-3)
    assert (found.source, found.images, found.said, found.bins) == ("labels", 400, None, ())


def test_one_deviation_stands_for_all_phrases():
    """The geometric mean of 0.5 and 2; what is not grounded has no part in it."""
    projected = np.array([[0.5, 2, 9], [-0.5, -2, -9]], np.float32)
    found = fit_calibration(projected, np.eye(2, 3), np.array([0.5, 0.5, 0]), "labels")
    assert found.deviation == pytest.approx(1.0)
    assert found.scores(projected[0]) == pytest.approx([0.5, 2, 9])


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.45])
def test_a_network_is_cooled_until_it_is_as_sure_as_the_reference(temperature):
    reference = np.random.default_rng(0).dirichlet(np.full(20, 0.2), 100) + 1e-9
    reference /= reference.sum(axis=1, keepdims=True)
    logits = temperature * np.log(reference) + 3.0
    assert fit_temperature(logits, reference) == pytest.approx(temperature)


def planted(count, rng):
    """Said phrases: score, prior's place, noisy label, and the truth's own log-odds."""
    priors = np.array([0.05, 0.1, 0.2, 0.4], np.float32)
    phrases, scores = rng.integers(0, 4, count), rng.uniform(0, 4, count)
    odds = 1.2 * scores + 0.9 * log_odds(priors[phrases]) - 0.6
    true = rng.random(count) < chance(odds)
    # What a detector of d' = 2 says: a log likelihood ratio of 2 or -2, with a deviation of 2.
    ratio = np.where(true, 2, -2) + rng.normal(0, 2, count)
    prior = priors[phrases].astype(float)
    labels = chance(np.log(prior / (1 - prior)) + ratio)
    calibration = replace(
        MADE, mean=np.zeros(4, np.float32), prior=priors, grounded=np.ones(4, bool)
    )
    return calibration, scores, labels, phrases, odds, true


def test_em_finds_what_is_said_behind_noisy_labels():
    calibration, scores, labels, phrases, odds, true = planted(20_000, np.random.default_rng(2))
    found = fit_chosen(calibration, scores, labels, phrases)
    said = found.said
    fitted = said[0] * scores + said[1] * log_odds(calibration.prior[phrases]) + said[2]
    assert np.abs(chance(fitted) - chance(odds)).mean() < 0.02
    # Taken at their word, the labels are true of far fewer: their prior is of all images.
    assert true.mean() - labels.mean() > 0.1
    # With the fit in the prior's place each label says what is true as often as it says.
    told = found.denoised(chance(fitted), labels, phrases)
    table = with_reliability(found, told, true)
    assert table.expected_error < 0.02
    assert np.mean((told > 0.5) == true) > np.mean((chance(fitted) > 0.5) == true)


def test_too_little_said_leaves_the_calibration_as_it_was():
    calibration, *given = planted(29, np.random.default_rng(0))[:4]
    assert fit_chosen(calibration, *given) is calibration
