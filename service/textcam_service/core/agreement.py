"""Agreement of explanations: how alike two models, devices or versions explain the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.interpolation import resample
from textcam_service.core.types import FloatArray, Rationale

# Share of a map's largest value; float32 resolves no smaller variation.
_FLAT = 1e-6


@dataclass(frozen=True)
class AgreementThresholds:
    """Agreement that is required; the defaults are those of an int8 or device backbone.

    Attributes:
        top1: Least share of images with the same most probable class, 0..1.
        map_correlation: Least mean correlation of saliency maps, -1..1.
        first_phrase: Least share of images with the same first phrase, 0..1.
        share_difference: Largest mean difference of evidence shares, 0..1; 1 admits any.
    """

    top1: float = 0.98
    map_correlation: float = 0.97
    first_phrase: float = 0.95
    share_difference: float = 1.0


@dataclass(frozen=True)
class ImageAgreement:
    """Agreement of two explanations of one image.

    Attributes:
        top1: Both models find the same class most probable; see same_top().
        map_correlation: See map_correlation().
        first_phrase: Both rationales begin with the same phrase, or both have none.
        share_difference: See share_difference().
    """

    top1: bool
    map_correlation: float
    first_phrase: bool
    share_difference: float


@dataclass(frozen=True)
class ExplanationAgreement:
    """Agreement over a set of images.

    Attributes:
        images: Number of images.
        top1: Share of images with the same most probable class, 0..1.
        map_correlation: Mean of map_correlation(), -1..1.
        map_correlation_p5: 5th percentile of map_correlation() over the images.
        first_phrase: Share of images with the same first phrase in both rationales, 0..1.
        share_difference: Mean of share_difference(), 0..1; None: not measured.
    """

    images: int
    top1: float
    map_correlation: float
    map_correlation_p5: float
    first_phrase: float
    share_difference: float | None = None

    @classmethod
    def average(cls, images: Sequence[ImageAgreement]) -> ExplanationAgreement:
        """Average the agreement of one or more images."""
        correlations = [image.map_correlation for image in images]
        return cls(
            images=len(images),
            top1=float(np.mean([image.top1 for image in images])),
            map_correlation=float(np.mean(correlations)),
            map_correlation_p5=float(np.percentile(correlations, 5)),
            first_phrase=float(np.mean([image.first_phrase for image in images])),
            share_difference=float(np.mean([image.share_difference for image in images])),
        )

    def missed(self, thresholds: AgreementThresholds) -> list[str]:
        """List the missed thresholds in words; a measure of nan misses its threshold."""
        missed = [
            f"{name} {getattr(self, name):.3f}, at least {least:g} is required"
            for name in ("top1", "map_correlation", "first_phrase")
            if not getattr(self, name) >= (least := getattr(thresholds, name))
        ]
        difference, most = self.share_difference, thresholds.share_difference
        if most < 1 and not (difference is not None and difference <= most):
            shown = "not measured" if difference is None else f"{difference:.3f}"
            missed.append(f"share_difference {shown}, at most {most:g} is required")
        return missed

    def meets(self, thresholds: AgreementThresholds) -> bool:
        """Return True if no threshold is missed."""
        return not self.missed(thresholds)

    def compared_with(self, thresholds: AgreementThresholds) -> str:
        """Describe the agreement and the thresholds, for people."""
        shares = ""
        if thresholds.share_difference < 1 and self.share_difference is not None:
            shares = (
                f"difference of evidence shares {self.share_difference:.4f} (at most "
                f"{thresholds.share_difference:g}), "
            )
        return (
            f"same top-1 {self.top1:.4f} (at least {thresholds.top1:g}), correlation of saliency "
            f"maps {self.map_correlation:.4f} (at least {thresholds.map_correlation:g}; 5th "
            f"percentile {self.map_correlation_p5:.4f}), same first phrase "
            f"{self.first_phrase:.4f} (at least {thresholds.first_phrase:g}), {shares}over "
            f"{self.images} images"
        )


def same_top(one: FloatArray, other: FloatArray, *, multi_label: bool) -> bool:
    """Return True if two models find the same class of an image most probable.

    Of labels that do not exclude each other the order says little: two that both models find
    present, with a probability above 0.5, count as the same.

    Args:
        one: Logits (C,) of the first model.
        other: Logits (C,) of the second one.
        multi_label: The classes do not exclude each other.
    """
    tops = [int(np.argmax(one)), int(np.argmax(other))]
    present = bool((one[tops] > 0).all() and (other[tops] > 0).all())
    return tops[0] == tops[1] or (multi_label and present)


def compare_rationales(one: Rationale, other: Rationale, *, top1: bool) -> ImageAgreement:
    """Measure how alike two rationales of an image are.

    Args:
        one: Rationale of the first model.
        other: Rationale of the second one.
        top1: Both models find the same class most probable.
    """
    return ImageAgreement(
        top1=top1,
        map_correlation=map_correlation(one.saliency_map, other.saliency_map),
        first_phrase=_first_phrase(one) == _first_phrase(other),
        share_difference=share_difference(evidence_shares(one), evidence_shares(other)),
    )


def map_correlation(one: FloatArray, other: FloatArray) -> float:
    """Correlate two saliency maps (H, W), (H', W') over positions: Pearson's r, -1..1.

    Maps of different size are compared on the finer grid: along each axis separately, the coarser
    map is stretched bilinearly. Pearson's r does not depend on the level and scale of a map. A flat
    map points nowhere: two flat maps agree (1), whatever their values, and a flat map agrees with
    no other map (0). A map is flat if its values differ by no more than float32 resolves.
    """
    height, width = np.maximum(one.shape, other.shape).tolist()
    values = [_on_grid(own, height, width).astype(np.float64).ravel() for own in (one, other)]
    flat = [bool(np.ptp(own) <= _FLAT * np.abs(own).max()) for own in values]
    if any(flat):
        return float(all(flat))
    first, second = (own - own.mean() for own in values)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def share_difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Measure how differently evidence is shared out: 0 for equal shares, 1 for none in common.

    It is half the sum of the differences of the phrases' shares (total variation). 1 is also
    reached if all shares have opposite signs.

    Args:
        one: Signed shares by phrase; their sizes add up to 1. See evidence_shares().
        other: Signed shares of the other explanation.
    """
    return sum(abs(one.get(text, 0.0) - other.get(text, 0.0)) for text in {*one, *other}) / 2


def evidence_shares(rationale: Rationale) -> dict[str, float]:
    """Divide each phrase's evidence, and the rest's under "", by the sum of their sizes."""
    evidence = {phrase.text: phrase.evidence for phrase in rationale.phrases}
    evidence[""] = rationale.rest.evidence
    whole = sum(map(abs, evidence.values())) or 1.0
    return {text: value / whole for text, value in evidence.items()}


def _on_grid(values: FloatArray, height: int, width: int) -> FloatArray:
    return values if values.shape == (height, width) else resample(values, height, width)


def _first_phrase(rationale: Rationale) -> str | None:
    return rationale.phrases[0].text if rationale.phrases else None
