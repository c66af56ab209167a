"""Probabilities of phrases, fitted on the probing images without labels by hand.

By evidence alone, P_e(v) = sigmoid(a s_v + b logit(prior_v) + d): s_v is how far the evidence
speaks for the phrase, in deviations from the null, the probing images' own evidence. The prior is
how common the phrase is. All phrases share one deviation, because with few classes a phrase's own
spread over the probing images is the signal. a, b and d come from a logistic regression on soft
labels: the scores of a class table, or of the embedder, over the probing images.

If a table has the head's own classes, the network's classification of the image is more precise:
o_v is how true the phrase is of the network's classes, weighted by their probabilities. Then
logit P(v) = 0.2 logit P_e(v) + 0.75 logit o_v + 1.4. A table describes classes, not single images,
so these three numbers cannot be fitted to it. They are constants, measured on photographs with
phrases that were judged by eye (tests/bench/RESULTS.md).

If the labels are an embedder's scores of each image, they are noisy, and phrases are chosen
because their scores are high. So a second fit, on the phrases chosen for the probing images, keeps
each label's likelihood ratio and replaces its prior by the fit (EM).

Letters in shapes: N probing images, V phrases, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from textcam_service.core.probability import logit, sigmoid
from textcam_service.core.rationale.reliability import ReliabilityBin
from textcam_service.core.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    IntArray,
)

_BY_EVIDENCE, _BY_ATTRIBUTES, _SHIFT = 0.2, 0.75, 1.4
_CLIPPED = 6.0  # greatest log likelihood ratio that one label has


@dataclass(frozen=True)
class Calibration:
    """Calibration of evidence to probability.

    Attributes:
        mean: (V,) mean of the probing images' unit evidence by the supports: the null.
        deviation: Deviation of the null, one number: the geometric mean over phrases.
        prior: (V,) how common each phrase is.
        grounded: (V,) True if anything is known of the phrase; other phrases are never chosen.
        slope: a, the factor of the score.
        prior_weight: b, the factor of the prior's logit.
        offset: d, the constant.
        temperature: Divisor of the network's logits before the softmax that weighs the table; 0:
            there is no table of the head's classes, and evidence decides alone.
        source: Source of the soft labels.
        images: N.
        said: (a, b, d) of the chosen phrases, fitted by EM; None: not fitted.
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
        """Convert scores (..., V) to probabilities over all phrases, by evidence alone."""
        return sigmoid(self._by_evidence(scores))

    def probabilities(
        self, scores: FloatArray, by_attributes: FloatArray | None = None
    ) -> Float64Array:
        """Convert scores to probabilities of phrases that the evidence speaks for.

        Args:
            scores: (..., V).
            by_attributes: (..., V) o, see above; None: evidence decides alone.

        Returns:
            (..., V), 0..1; 0 where the phrase is not grounded.
        """
        if by_attributes is not None:
            total = (
                _BY_EVIDENCE * self._by_evidence(scores)
                + _BY_ATTRIBUTES * logit(by_attributes)
                + _SHIFT
            )
        elif self.said is not None:
            slope, prior_weight, offset = self.said
            total = slope * scores + (prior_weight * logit(self.prior) + offset)
        else:
            total = self._by_evidence(scores)
        return np.where(self.grounded, sigmoid(total), 0.0)

    def denoised(
        self, probabilities: FloatArray, labels: FloatArray, phrases: IntArray
    ) -> Float64Array:
        """Update probabilities (K,) of phrases (K,) by the likelihood of noisy labels (K,)."""
        return sigmoid(
            logit(probabilities, 1e-9) + log_likelihood_ratio(labels, self.prior[phrases])
        )

    def is_supported(self, scores: FloatArray, min_odds: float) -> BoolArray:
        """Return True where evidence multiplies a phrase's odds by `min_odds`: (..., V)."""
        raised = self.slope * np.asarray(scores) >= np.log(min_odds)
        return np.asarray(raised & (np.asarray(scores) > 0) & self.grounded)

    def _by_evidence(self, scores: FloatArray) -> Float64Array:
        return np.asarray(self.slope * np.asarray(scores, np.float64) + self._known)

    @cached_property
    def _known(self) -> Float64Array:
        """Log-odds (V,) of each phrase before any evidence."""
        return self.prior_weight * logit(self.prior) + self.offset

    @property
    def expected_error(self) -> float:
        """Mean |probability - observed| over the bins, weighted by count; 0 without bins."""
        total = sum(each.count for each in self.bins)
        return (
            sum(abs(each.probability - each.observed) * each.count for each in self.bins) / total
            if total
            else 0.0
        )


def log_likelihood_ratio(labels: FloatArray, prior: FloatArray) -> Float64Array:
    """Compute how far labels move the log-odds of their prior, each at most by 6."""
    return np.clip(logit(labels, 1e-9) - logit(prior, 1e-9), -_CLIPPED, _CLIPPED)
