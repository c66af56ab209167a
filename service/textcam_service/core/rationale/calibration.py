"""Probabilities of phrases, fitted on the probing images without labels by hand.

By evidence alone, P_e(v) = sigmoid(a s_v + b logit(prior_v) + d): s_v is how far the evidence
speaks for the phrase, in deviations, against the null of the probing images' own evidence, and the
prior says how common the phrase is. One deviation stands for all phrases: a phrase's own spread
over the probing images is the signal where classes are few. a, b and d are a logistic regression
on soft labels: what a table of classes, or the embedder, holds of the probing images.

Where a table has the head's own classes, the network's opinion of the image says more: o_v is how
true the phrase is of the classes that the network holds for possible, by their probabilities.
Then logit P(v) = 0.2 logit P_e(v) + 0.75 logit o_v + 1.4. A table knows classes, and no single
image: it cannot teach these three numbers, which are constants, measured on photographs whose
phrases were judged by looking (tests/bench/RESULTS.md).

Where the labels are an embedder's opinion of each image, what is said has been chosen for being
high, and such labels are noisy: a second fit, on what is said of the probing images, keeps each
label's likelihood ratio and puts the fit in the place of its prior (EM).

Letters in shapes: N probing images, V phrases, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textcam_service.core.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    IntArray,
)

_PAIRS = 60_000
_STEPS, _LONGEST_STEP, _CONVERGED, _MOST = 25, 5.0, 1e-8, 50.0
BINS = 10
"""Ranges of a reliability table."""

_EDGE = 1e-3  # keeps the logit of 0 and 1 finite
_BY_EVIDENCE, _BY_OPINION, _SHIFT = 0.2, 0.75, 1.4
_ROUNDS, _LEAST_SAID = 50, 30
_CLIPPED = 6.0  # greatest log likelihood ratio that one label has
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
        said: (a, b, d) of what is said, fitted by EM; None: not fitted.
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
    said: tuple[float, float, float] | None = None
    bins: tuple[ReliabilityBin, ...] = ()

    def scores(self, projected: FloatArray) -> Float32Array:
        """Standardise against the null: (..., V) as evidence_by_phrase gives it -> (..., V)."""
        return np.asarray((projected - self.mean) / np.float32(self.deviation), np.float32)

    def by_evidence(self, scores: FloatArray) -> Float64Array:
        """Turn scores (..., V) into probabilities over all phrases, by evidence alone."""
        return sigmoid(self._by_evidence(scores))

    def probabilities(self, scores: FloatArray, opinion: FloatArray | None = None) -> Float64Array:
        """Turn scores into the probabilities of phrases that the evidence speaks for.

        Args:
            scores: (..., V).
            opinion: (..., V) o, see above; None: evidence speaks alone.

        Returns:
            (..., V), 0..1; 0 where the phrase is not grounded.
        """
        if opinion is not None:
            total = _BY_EVIDENCE * self._by_evidence(scores) + _BY_OPINION * logit(opinion) + _SHIFT
        elif self.said is not None:
            slope, prior_weight, offset = self.said
            total = slope * scores + (prior_weight * logit(self.prior) + offset)
        else:
            total = self._by_evidence(scores)
        return np.where(self.grounded, sigmoid(total), 0.0)

    def denoised(
        self, probabilities: FloatArray, labels: FloatArray, phrases: IntArray
    ) -> Float64Array:
        """Weigh a probability (K,) by what a noisy label (K,) of phrases (K,) adds to its prior."""
        return sigmoid(logit(probabilities, 1e-9) + _likelihood(labels, self.prior[phrases]))

    def speaks_for(self, scores: FloatArray, min_odds: float) -> BoolArray:
        """Whether the evidence multiplies a phrase's odds by so much: (..., V) -> (..., V)."""
        raised = self.slope * np.asarray(scores) >= np.log(min_odds)
        return np.asarray(raised & (np.asarray(scores) > 0) & self.grounded)

    def _by_evidence(self, scores: FloatArray) -> Float64Array:
        known = self.prior_weight * logit(self.prior) + self.offset
        return np.asarray(self.slope * np.asarray(scores, np.float64) + known)

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


def fit_said(
    calibration: Calibration, scores: Float64Array, labels: FloatArray, phrases: IntArray
) -> Calibration:
    """Fit what is said of the probing images, by EM on noisy labels.

    Args:
        calibration: Fitted over all phrases.
        scores: (P,) of each said phrase of an image.
        labels: (P,) its soft label.
        phrases: (P,) its place in the vocabulary.

    Returns:
        The calibration with `said`; as it was where too little is said.
    """
    if len(scores) < _LEAST_SAID:
        return calibration
    prior = calibration.prior[phrases]
    terms = np.stack([scores, logit(prior), np.ones(len(scores))], axis=1)
    ratio = _likelihood(labels, prior)
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
    """Add the reliability table of what is said of the probing images: both (P,)."""
    return replace(calibration, bins=reliability(probabilities, labels))


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
    place = np.minimum((given * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=values, minlength=BINS) for values in (given, true)]
    return tuple(
        ReliabilityBin(
            index / BINS,
            (index + 1) / BINS,
            float(sums[0][index] / count[index]),
            float(sums[1][index] / count[index]),
            int(count[index]),
        )
        for index in np.flatnonzero(count).tolist()
    )


def logit(probability: FloatArray, edge: float = _EDGE) -> Float64Array:
    """log(p / (1 - p)), with both kept from 0 by `edge`."""
    held = np.asarray(probability, np.float64)
    return np.asarray(np.log((held + edge) / (1 - held + edge)))


def sigmoid(value: FloatArray) -> Float64Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(value, np.float64))))


def _likelihood(labels: FloatArray, prior: FloatArray) -> Float64Array:
    """Log likelihood ratio that labels have beyond their prior."""
    return np.clip(logit(labels, 1e-9) - logit(prior, 1e-9), -_CLIPPED, _CLIPPED)


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
