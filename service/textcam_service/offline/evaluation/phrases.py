"""Measures of a rationale's phrases against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from textcam_service.core.rationale.reliability import BINS, reliability
from textcam_service.core.types import Float64Array, FloatArray, IntArray
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import Observation, Truth, explain_case

PHRASES = 5
_SWAPS = 20  # other images that a list is judged on
_RESAMPLED = 1000
_INTERVAL = 0.025, 0.975


class SaidPhrase(NamedTuple):
    """A phrase in the rationale of an image.

    Attributes:
        text: The phrase.
        evidence: Its share of the logit; nan: it has none, like the phrases of a control without
            channels.
        probability: Probability that it is true; None: the bank is not calibrated.
    """

    text: str
    evidence: float = math.nan
    probability: float | None = None


Explain = Callable[[Observation], Sequence[SaidPhrase]]


@dataclass(frozen=True)
class PhraseMetrics:
    """Measures of the said phrases; doubtful ones count neither as right nor as wrong.

    Attributes:
        precision: Share of right phrases among all said phrases, of all images together.
        precision_1: Share of images with a right first phrase, among images with phrases.
        precision_3: Share of right phrases among the first three, mean over images with phrases.
        none: Share of images without phrases.
        recall: Share of the class's words that its right phrases mention, mean over all images;
            nan: not known.
        evidence_share: Share of right phrases in the evidence of all said phrases, for and against,
            of all images together; nan: the phrases have no evidence.
        swapped: Precision of the same lists if each is judged on other images: the precision that
            common phrases reach on any image.
        ece: Expected calibration error of the said phrases' probabilities, in ten ranges; nan: they
            have none.
        phrases: Number of said phrases, mean over all images.
    """

    precision: float
    precision_1: float
    precision_3: float
    none: float
    recall: float
    evidence_share: float
    swapped: float
    ece: float
    phrases: float


@dataclass(frozen=True)
class Judged:
    """Said phrases of one image with its truth, in folded letter case.

    Attributes:
        said: Best first, at most PHRASES.
        right: Phrases that are true of it.
        doubtful: Phrases that may be true of it.
        words: Words that a good rationale mentions; empty: not known.
    """

    said: tuple[SaidPhrase, ...]
    right: frozenset[str]
    doubtful: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()

    def marks(self, said: Sequence[SaidPhrase] | None = None) -> Float64Array:
        """Mark right phrases 1, wrong ones 0 and doubtful ones nan; None: its own phrases."""
        texts = [folded(phrase.text) for phrase in (self.said if said is None else said)]
        return np.array(
            [math.nan if text in self.doubtful else float(text in self.right) for text in texts]
        )


def judged(observation: Observation, truth: Truth, said: Sequence[SaidPhrase]) -> Judged:
    """Pair the said phrases of an image with its truth."""
    case, index = observation.case, observation.prediction.class_index
    return Judged(
        tuple(said[:PHRASES]),
        frozenset(map(folded, truth.right(case, index))),
        frozenset(map(folded, case.doubtful)),
        truth.class_words.get(index, frozenset()),
    )


def judge_phrases(
    observations: Sequence[Observation], truth: Truth, explain: Explain
) -> PhraseMetrics:
    """Judge the said phrases of each image, in any letter case."""
    return phrase_metrics([judged(each, truth, explain(each)) for each in observations])


def phrase_metrics(rows: Sequence[Judged]) -> PhraseMetrics:
    """Judge the said phrases of one or more images."""
    return _Sums.of(rows).metrics(np.ones(len(rows)))


def phrase_intervals(rows: Sequence[Judged]) -> tuple[PhraseMetrics, PhraseMetrics]:
    """Estimate the bounds of 95 % of each measure, by a bootstrap over the images."""
    sums, drawn = _Sums.of(rows), np.random.default_rng(0)
    counts = drawn.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), _RESAMPLED)
    found = np.array([list(asdict(sums.metrics(weights)).values()) for weights in counts])
    # If no image has phrases, no draw has a precision.
    bounds = [
        np.quantile(own[known], _INTERVAL) if (known := ~np.isnan(own)).any() else (math.nan,) * 2
        for own in found.T
    ]
    low, high = np.array(bounds).T.tolist()
    return PhraseMetrics(*low), PhraseMetrics(*high)


def phrase_reliability(rows: Sequence[Judged]) -> Mapping[str, Mapping[str, float]]:
    """Compare the said phrases' probabilities with the share that is true, in ranges."""
    given, true = _calibrated(rows)
    return {
        f"{each.lower:.1f} to {each.upper:.1f}": {
            "probability": each.probability,
            "observed": each.observed,
            "phrases": float(each.count),
        }
        for each in reliability(given, true)
    }


def derangements(count: int) -> IntArray:
    """Draw random derangements of images: (R, N), each image in another's place.

    In a fixed random circle each gets the one before it; fewer than two have no other.
    """
    rng = np.random.default_rng(0)
    rounds: IntArray = np.zeros((_SWAPS if count > 1 else 0, count), np.int64)
    for row in rounds:
        circle = rng.permutation(count)
        row[circle] = np.roll(circle, 1)
    return rounds


def folded(phrase: str) -> str:
    """Fold a phrase's letter case and outer spaces, for comparison."""
    return phrase.strip().casefold()


def bundle_explainer(bundle: ModelBundle) -> Explain:
    """Return a function that explains an observation as the product does."""

    def explain(observation: Observation) -> list[SaidPhrase]:
        rationale = explain_case(bundle, observation, PHRASES)
        return [
            SaidPhrase(phrase.text, phrase.evidence, phrase.probability)
            for phrase in rationale.phrases
        ]

    return explain


@dataclass(frozen=True)
class _Sums:
    """Sums over N images; their quotients are the measures, and images can be weighted.

    Attributes:
        above: (N, F) in the order of _QUOTIENTS.
        below: (N, F).
        gaps: (N, B) sums of probability less truth, by range of probability.
        counts: (N,) number of phrases that have a probability and are not doubtful.
    """

    above: Float64Array
    below: Float64Array
    gaps: Float64Array
    counts: Float64Array

    @staticmethod
    def of(rows: Sequence[Judged]) -> _Sums:
        pairs = [_quotients(row) for row in rows]
        swapped = _swapped(rows)
        above, below = (
            np.insert(np.array([pair[side] for pair in pairs]), _SWAPPED, swapped[side], axis=1)
            for side in (0, 1)
        )
        gaps, counts = np.zeros((len(rows), BINS)), np.zeros(len(rows))
        for index, row in enumerate(rows):
            given, true = _calibrated([row])
            place = np.minimum((given * BINS).astype(np.int64), BINS - 1)
            gaps[index] = np.bincount(place, given - true, minlength=BINS)
            counts[index] = len(given)
        return _Sums(above, below, gaps, counts)

    def metrics(self, weights: FloatArray) -> PhraseMetrics:
        above, below = weights @ self.above, weights @ self.below
        found = np.where(below > 0, above / np.where(below > 0, below, 1), math.nan)
        known = float(weights @ self.counts)
        ece = float(np.abs(weights @ self.gaps).sum()) / known if known else math.nan
        return PhraseMetrics(**dict(zip(_QUOTIENTS, found.tolist(), strict=True)), ece=ece)


_QUOTIENTS = (
    "precision", "precision_1", "precision_3", "none", "recall", "evidence_share", "swapped",
    "phrases",
)  # fmt: skip
_SWAPPED = _QUOTIENTS.index("swapped")


def _quotients(row: Judged) -> tuple[list[float], list[float]]:
    """Compute what one image adds to each measure's numerator and denominator, except swapped."""
    marks = row.marks()
    clear = marks[~np.isnan(marks)]
    first = marks[:1][~np.isnan(marks[:1])]
    three = marks[:3][~np.isnan(marks[:3])]
    mentioned = {
        word
        for phrase, mark in zip(row.said, marks, strict=True)
        if mark == 1
        for word in phrase.text.split()
    }
    evidence = np.array([abs(phrase.evidence) for phrase in row.said])[~np.isnan(marks)]
    pairs = [
        (clear.sum(), len(clear)),
        (first.sum(), len(first)),
        (three.mean() if len(three) else 0, bool(len(three))),
        (not row.said, 1),
        (len(row.words & mentioned) / max(len(row.words), 1), bool(row.words)),
        (np.nansum(evidence * clear), np.nansum(evidence)),
        (len(row.said), 1),
    ]
    above, below = np.array(pairs, np.float64).T.tolist()
    return above, below


def _swapped(rows: Sequence[Judged]) -> tuple[Float64Array, Float64Array]:
    """Count by image how many of its phrases are right, and are judged, on other images."""
    right, clear = np.zeros(len(rows)), np.zeros(len(rows))
    for exchanged in derangements(len(rows)):
        for place, other in enumerate(exchanged.tolist()):
            marks = rows[other].marks(rows[place].said)
            right[place] += np.nansum(marks)
            clear[place] += (~np.isnan(marks)).sum()
    return right, clear


def _calibrated(rows: Sequence[Judged]) -> tuple[Float64Array, Float64Array]:
    """Return (P,) probabilities of said phrases and (P,) their truth, without doubtful ones."""
    pairs = [
        (phrase.probability, mark)
        for row in rows
        for phrase, mark in zip(row.said, row.marks().tolist(), strict=True)
        if phrase.probability is not None and not math.isnan(mark)
    ]
    given, true = np.array(pairs, np.float64).reshape(-1, 2).T
    return given, true
