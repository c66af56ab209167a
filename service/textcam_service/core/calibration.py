"""Probabilities of phrases, fitted on the probing images without labels by hand.

P(v | e) = sigmoid(a s_v + b logit(prior_v) + c logit(n_v) + d): s_v is how far the evidence speaks
for the phrase, in deviations, against the null of the probing images' own evidence; the prior
says how common the phrase is; n_v, where there is a table of classes, says how true it is of those
other classes that the same evidence would serve. One deviation stands for all phrases: a phrase's
own spread over the probing images is the signal where classes are few. a, b, c and d are a logistic
regression on soft labels: what a table, or the embedder, holds of the probing images.

Letters in shapes: N probing images, V phrases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textcam_service.core.types import BoolArray, Float32Array, Float64Array, FloatArray

_PAIRS = 60_000
_STEPS = 25
_BINS = 10
_EDGE = 1e-3  # keeps the logit of 0 and 1 finite


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
        neighbour_weight: c; 0 where there is no table of the head's classes.
        offset: d.
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
    neighbour_weight: float
    offset: float
    source: str
    images: int
    bins: tuple[ReliabilityBin, ...] = ()

    def scores(self, projected: FloatArray) -> Float32Array:
        """Standardise against the null: (..., V) as evidence_by_phrase gives it -> (..., V)."""
        return np.asarray((projected - self.mean) / np.float32(self.deviation), np.float32)

    def probabilities(
        self, scores: FloatArray, neighbours: FloatArray | None = None
    ) -> Float64Array:
        """Turn scores into probabilities.

        Args:
            scores: (..., V).
            neighbours: (..., V) n; needed where `neighbour_weight` is not 0.

        Returns:
            (..., V), 0..1; 0 where the phrase is not grounded.
        """
        total = self.slope * scores + (self.prior_weight * logit(self.prior) + self.offset)
        if self.neighbour_weight and neighbours is not None:
            total = total + self.neighbour_weight * logit(neighbours)
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
    projected: FloatArray,
    labels: FloatArray,
    prior: FloatArray,
    source: str,
    neighbours: FloatArray | None = None,
) -> Calibration:
    """Fit on the probing images' own evidence.

    Args:
        projected: (N, V) evidence_by_phrase of the probing images.
        labels: (N, V) soft labels, 0..1.
        prior: (V,) how common each phrase is; 0: nothing is known of it.
        source: Where the labels came from.
        neighbours: (N, V), see Calibration; None: there is no table.
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
        neighbour_weight=0.0,
        offset=0.0,
        source=source,
        images=len(projected),
    )
    if not grounded.any():
        return blank
    drawn = np.random.default_rng(0)
    rows = drawn.integers(0, len(projected), _PAIRS)
    columns = drawn.choice(np.flatnonzero(grounded), _PAIRS)
    terms = [blank.scores(projected)[rows, columns], logit(blank.prior)[columns]]
    if neighbours is not None:
        terms.append(logit(neighbours[rows, columns]))
    weights = _logistic(np.stack([*terms, np.ones(_PAIRS)], axis=1), labels[rows, columns])
    slope, prior_weight, *further, offset = weights.tolist()
    fitted = replace(
        blank,
        slope=slope,
        prior_weight=prior_weight,
        neighbour_weight=further[0] if further else 0.0,
        offset=offset,
    )
    found = fitted.probabilities(fitted.scores(projected), neighbours)
    bins = reliability(found[:, grounded], np.asarray(labels)[:, grounded])
    return replace(fitted, bins=bins)


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
