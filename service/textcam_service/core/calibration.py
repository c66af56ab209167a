"""Probabilities of phrases, fitted on the probing images without labels by hand.

By evidence alone, P_e(v) = sigmoid(a s_v + b logit(prior_v) + d): s_v is how far the evidence
speaks for the phrase, in deviations, against the null of the probing images' own evidence, and the
prior says how common the phrase is. One deviation stands for all phrases: a phrase's own spread
over the probing images is the signal where classes are few. a, b and d are a logistic regression
on soft labels: what a table of classes, or the embedder, holds of the probing images.

Where a table has the head's own classes, the network's opinion of the image says more: o_v is how
true the phrase is of the classes that the network holds for possible, by their probabilities.
Then logit P(v) = 0.25 logit P_e(v) + 0.9 logit o_v + 0.5. A table knows classes, and no single
image: it cannot teach these three numbers, which are constants, measured on photographs whose
phrases people judged (tests/bench/RESULTS.md).

Letters in shapes: N probing images, V phrases, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textcam_service.core.types import BoolArray, Float32Array, Float64Array, FloatArray

_PAIRS = 60_000
_STEPS = 25
_BINS = 10
_EDGE = 1e-3  # keeps the logit of 0 and 1 finite
_BY_EVIDENCE, _BY_OPINION, _SHIFT = 0.25, 0.9, 0.5
_TEMPERATURES = np.arange(0.3, 2.01, 0.05)


@dataclass(frozen=True)
class ReliabilityBin:
    """Phrases of probing images whose probability fell into a range.

    Attributes:
        lower: Of the range.
        upper: Of the range, not included but for 1.
        probability: Their mean probability.
        observed: The share that is true, by the soft labels.
        count: How many.
    """

    lower: float
    upper: float
    probability: float
    observed: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """How evidence becomes probability.

    Attributes:
        mean: (V,) of the probing images' unit evidence by the supports: the null.
        deviation: Of it, one number: the geometric mean over phrases.
        prior: (V,) how common each phrase is.
        grounded: (V,) whether anything is known of the phrase; others are never said.
        slope: a, of the score.
        prior_weight: b.
        offset: d.
        temperature: By which the network's logits are divided before their softmax is its opinion;
            0: there is no table of the head's classes, and evidence speaks alone.
        source: Where the soft labels came from.
        images: N.
        bins: The reliability table on the probing images.
    """

    mean: Float32Array
    deviation: float
    prior: Float32Array
    grounded: BoolArray
    slope: float
    prior_weight: float
    offset: float
    temperature: float
    source: str
    images: int
    bins: tuple[ReliabilityBin, ...] = ()

    def scores(self, projected: FloatArray) -> Float32Array:
        """Standardise against the null: (..., V) as evidence_by_phrase gives it -> (..., V)."""
        return np.asarray((projected - self.mean) / np.float32(self.deviation), np.float32)

    def probabilities(self, scores: FloatArray, opinion: FloatArray | None = None) -> Float64Array:
        """Turn scores into probabilities.

        Args:
            scores: (..., V).
            opinion: (..., V) o, see above; None: evidence speaks alone.

        Returns:
            (..., V), 0..1; 0 where the phrase is not grounded.
        """
        total = self.slope * scores + (self.prior_weight * logit(self.prior) + self.offset)
        if opinion is not None:
            total = _BY_EVIDENCE * total + _BY_OPINION * logit(opinion) + _SHIFT
        return np.where(self.grounded, sigmoid(total), 0.0)

    @property
    def expected_error(self) -> float:
        """Mean |probability - observed| over the bins, weighted by count; 0 without bins."""
        total = sum(each.count for each in self.bins)
        return (
            sum(abs(each.probability - each.observed) * each.count for each in self.bins) / total
            if total
            else 0.0
        )


def fit_calibration(
    projected: FloatArray, labels: FloatArray, prior: FloatArray, source: str
) -> Calibration:
    """Fit evidence's part on the probing images' own evidence.

    Args:
        projected: (N, V) evidence_by_phrase of the probing images.
        labels: (N, V) soft labels, 0..1.
        prior: (V,) how common each phrase is; 0: nothing is known of it.
        source: Where the labels came from.
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


def with_reliability(
    calibration: Calibration,
    projected: FloatArray,
    labels: FloatArray,
    opinion: FloatArray | None = None,
) -> Calibration:
    """Add the reliability table of the probing images; arguments as of fit_calibration."""
    found = calibration.probabilities(calibration.scores(projected), opinion)
    grounded = calibration.grounded
    bins = reliability(found[:, grounded], np.asarray(labels)[:, grounded])
    return replace(calibration, bins=bins)


def opinion_temperature(logits: FloatArray, reference: FloatArray) -> float:
    """Find the temperature at which a network is as sure as a reference of the same classes.

    Args:
        logits: (N, C) of the network.
        reference: (N, C) probabilities of a classifier whose sureness is right.

    Returns:
        The one of least cross-entropy, 0.3 to 2.
    """
    costs = []
    for temperature in _TEMPERATURES:
        scaled = np.asarray(logits, np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        sums = np.log(np.exp(scaled).sum(axis=1))
        costs.append(float((sums - (reference * scaled).sum(axis=1)).mean()))
    return float(_TEMPERATURES[int(np.argmin(costs))])


def reliability(probabilities: FloatArray, observed: FloatArray) -> tuple[ReliabilityBin, ...]:
    """Compare probabilities with what is true, in ten ranges; empty ones are left out.

    Args:
        probabilities: Of any shape, 0..1.
        observed: Of the same shape: 0, 1, or soft labels.
    """
    given, true = np.ravel(probabilities), np.ravel(observed)
    place = np.minimum((given * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    sums = [np.bincount(place, weights=values, minlength=_BINS) for values in (given, true)]
    return tuple(
        ReliabilityBin(
            index / _BINS,
            (index + 1) / _BINS,
            float(sums[0][index] / count[index]),
            float(sums[1][index] / count[index]),
            int(count[index]),
        )
        for index in np.flatnonzero(count).tolist()
    )


def logit(probability: FloatArray) -> Float64Array:
    """log(p / (1 - p)), with both kept from 0."""
    held = np.asarray(probability, np.float64)
    return np.asarray(np.log((held + _EDGE) / (1 - held + _EDGE)))


def sigmoid(value: FloatArray) -> Float64Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(value, np.float64))))


def _logistic(terms: Float64Array, labels: FloatArray) -> Float64Array:
    """Fit a logistic regression on soft labels by Newton's method: (P, K), (P,) -> (K,)."""
    weights: Float64Array = np.zeros(terms.shape[1])
    for _ in range(_STEPS):
        found = sigmoid(terms @ weights)
        bend = (terms * (found * (1 - found))[:, None]).T @ terms
        step = np.linalg.solve(bend + 1e-6 * np.eye(len(bend)), terms.T @ (labels - found))
        # A fit that separates its labels would run away; no probability needs more than this.
        weights = np.clip(weights + step, -50, 50)
        if np.abs(step).max() < 1e-8:
            break
    return weights
