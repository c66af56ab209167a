"""Probabilities of phrases, against scikit-learn, sums by hand and planted problems."""

from dataclasses import replace

import numpy as np
import pytest
from textcam_service.core.rationale.calibration import Calibration
from textcam_service.core.rationale.calibration_fitting import (
    fit_calibration,
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


def test_with_nothing_grounded_nothing_is_said():
    projected = np.random.default_rng(0).standard_normal((50, 4))
    found = fit_calibration(projected, np.ones((50, 4)), np.zeros(4), "labels")
    scores = found.scores(projected) + 100
    assert not found.probabilities(scores).any()
    assert not found.probabilities(scores, np.ones(4)).any()
    assert not found.is_supported(scores, 1.0).any()


def test_probabilities_by_hand():
    scores = MADE.scores(np.array([0.175, -0.2, 5.0]))
    assert scores == pytest.approx([1.5, 0, 100], abs=1e-5)
    by_evidence = [2 * 1.5 + 0.9 * log_odds(0.2) - 0.5, 0.9 * log_odds(0.01) - 0.5]
    alone = [chance(by_evidence[0]), chance(by_evidence[1]), 0]
    assert MADE.probabilities(scores) == pytest.approx(alone, abs=1e-6)
    assert MADE.by_evidence(scores)[:2] == pytest.approx(alone[:2], abs=1e-6)


def test_the_networks_opinion_is_blended_in_by_hand():
    scores, opinion = np.array([1.5, 0, 9]), np.array([0.6, 0.0, 1.0])
    by_evidence = [2 * 1.5 + 0.9 * log_odds(0.2) - 0.5, 0.9 * log_odds(0.01) - 0.5]
    blended = [
        chance(0.2 * by_evidence[0] + 0.75 * log_odds(0.6) + 1.4),
        chance(0.2 * by_evidence[1] + 0.75 * np.log(0.001 / 1.001) + 1.4),
        0,
    ]
    assert MADE.probabilities(scores, opinion) == pytest.approx(blended, abs=1e-6)
    # An opinion needs no fit of what is said.
    fitted = replace(MADE, said=(1.0, 1.0, 0.0))
    assert fitted.probabilities(scores, opinion) == pytest.approx(blended, abs=1e-6)


def test_what_is_said_has_a_fit_of_its_own_by_hand():
    fitted = replace(MADE, said=(0.5, 1.1, 0.2))
    scores = np.array([1.5, 0, 9])
    expected = [
        chance(0.75 + 1.1 * log_odds(0.2) + 0.2),
        chance(1.1 * log_odds(0.01) + 0.2),
        0,
    ]
    assert fitted.probabilities(scores) == pytest.approx(expected, abs=1e-6)
    assert fitted.by_evidence(scores) == pytest.approx(MADE.by_evidence(scores))


def test_evidence_speaks_for_a_phrase_whose_odds_it_multiplies():
    least = np.log(1.3) / 2
    scores = np.array([[least + 1e-6, least - 1e-6, 9], [0, -1, 9]])
    assert MADE.is_supported(scores, 1.3).tolist() == [[True, False, False], [False] * 3]
    # Odds that need not rise: still nothing is said against which the evidence speaks.
    assert MADE.is_supported(scores, 1.0).tolist() == [[True, True, False], [False] * 3]
    assert not replace(MADE, slope=-2.0).is_supported(scores, 1.0).any()


def test_a_label_counts_by_its_odds_beyond_the_prior():
    labels, phrases = np.array([0.5, 0.2, 1.0]), np.array([0, 0, 1])
    odds = np.log(0.7 / 0.3)
    expected = [
        chance(odds + 0 - np.log(0.2 / 0.8)),
        0.7,
        chance(odds + 6.0),  # no label is surer than that
    ]
    assert MADE.denoised(np.full(3, 0.7), labels, phrases) == pytest.approx(expected, abs=1e-5)
