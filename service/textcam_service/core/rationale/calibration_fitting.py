"""Fits of a calibration on the probing images; see core.rationale.calibration for the model.

Letters in shapes: N probing images, V phrases, C classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from textcam_service.core.probability import logit, sigmoid
from textcam_service.core.rationale.calibration import Calibration, log_likelihood_ratio
from textcam_service.core.rationale.reliability import reliability
from textcam_service.core.types import Float64Array, FloatArray, IntArray

_PAIRS = 60_000
_STEPS, _LONGEST_STEP, _CONVERGED, _MOST = 25, 5.0, 1e-8, 50.0
_ROUNDS, _LEAST_SAID = 50, 30
_TEMPERATURES = np.arange(0.3, 2.01, 0.05)


def fit_calibration(
    projected: FloatArray, labels: FloatArray, prior: FloatArray, source: str
) -> Calibration:
    """Fit evidence's part on the probing images' own evidence.

    Args:
        projected: (N, V) evidence_by_phrase of the probing images.
        labels: (N, V) soft labels, 0..1.
        prior: (V,) how common each phrase is; 0: nothing is known of it.
        source: Source of the labels.
    """
    projected = np.asarray(projected, np.float32)
    grounded = np.asarray(prior) > 0
    mean = projected.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = projected.std(axis=0, dtype=np.float64)[grounded]
    spread = spread[spread > 0]
    deviation = float(np.exp(np.log(spread).mean())) if len(spread) else 1.0
    blank = Calibration(
        mean=mean,
        deviation=deviation,
        prior=np.asarray(prior, np.float32),
        grounded=grounded,
        slope=0.0,
        prior_weight=0.0,
        offset=0.0,
        temperature=0.0,
        source=source,
        images=len(projected),
    )
    if not grounded.any():
        return blank
    drawn = np.random.default_rng(0)
    rows = drawn.integers(0, len(projected), _PAIRS)
    columns = drawn.choice(np.flatnonzero(grounded), _PAIRS)
    terms = blank.scores(projected)[rows, columns], logit(blank.prior)[columns], np.ones(_PAIRS)
    weights = _logistic(np.stack(terms, axis=1), labels[rows, columns])
    slope, prior_weight, offset = weights.tolist()
    return replace(blank, slope=slope, prior_weight=prior_weight, offset=offset)


def fit_chosen(
    calibration: Calibration, scores: Float64Array, labels: FloatArray, phrases: IntArray
) -> Calibration:
    """Fit the chosen phrases of the probing images, by EM on noisy labels.

    Args:
        calibration: Fitted over all phrases.
        scores: (P,) score of each chosen phrase of an image.
        labels: (P,) its soft label.
        phrases: (P,) its place in the vocabulary.

    Returns:
        The calibration with `said`; unchanged if too few phrases are chosen.
    """
    if len(scores) < _LEAST_SAID:
        return calibration
    prior = calibration.prior[phrases]
    terms = np.stack([scores, logit(prior), np.ones(len(scores))], axis=1)
    ratio = log_likelihood_ratio(labels, prior)
    true = np.asarray(labels, np.float64)
    weights: Float64Array = np.zeros(3)
    for _ in range(_ROUNDS):
        weights = _logistic(terms, true, ridge=1.0)
        true = sigmoid(terms @ weights + ratio)
    slope, prior_weight, offset = weights.tolist()
    return replace(calibration, said=(slope, prior_weight, offset))


def with_reliability(
    calibration: Calibration, probabilities: FloatArray, labels: FloatArray
) -> Calibration:
    """Add the reliability table of the probing images' chosen phrases: both (P,)."""
    return replace(calibration, bins=reliability(probabilities, labels))


def fit_temperature(logits: FloatArray, reference: FloatArray) -> float:
    """Find the temperature at which a network is as confident as a reference of the same classes.

    Args:
        logits: (N, C) of the network.
        reference: (N, C) probabilities of a well calibrated classifier.

    Returns:
        The temperature of least cross-entropy, 0.3 to 2.
    """
    costs = []
    for temperature in _TEMPERATURES:
        scaled = np.asarray(logits, np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        sums = np.log(np.exp(scaled).sum(axis=1))
        costs.append(float((sums - (reference * scaled).sum(axis=1)).mean()))
    return float(_TEMPERATURES[int(np.argmin(costs))])


def _logistic(terms: Float64Array, labels: FloatArray, ridge: float = 0.0) -> Float64Array:
    """Fit a logistic regression on soft labels by Newton's method: (P, K), (P,) -> (K,)."""
    weights: Float64Array = np.zeros(terms.shape[1])
    for _ in range(_STEPS):
        found = sigmoid(terms @ weights)
        bend = (terms * (found * (1 - found))[:, None]).T @ terms
        slope = terms.T @ (labels - found) - ridge * weights
        step = np.linalg.solve(bend + (ridge + 1e-6) * np.eye(len(bend)), slope)
        # A fit that separates its labels would run away.
        weights = weights + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CONVERGED:
            break
    return np.clip(weights, -_MOST, _MOST)
