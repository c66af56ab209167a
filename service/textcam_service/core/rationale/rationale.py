"""Rationales: the explanation of one target, from activation maps to phrases and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.cam import channel_evidence, saliency_map
from textcam_service.core.concepts.supports import contrasts, effects, strongest_support
from textcam_service.core.maps import Maps
from textcam_service.core.methods.base import CamTerms
from textcam_service.core.rationale.groups import saliency_groups
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.rationale.wording import Wording
from textcam_service.core.types import FloatArray, Phrase, Rationale


@dataclass(frozen=True)
class ExplainedScore:
    """Score of an image that is explained.

    Attributes:
        logits: (C,) of the image.
        class_index: The class that is explained; of a contrast, the first of the two.
        logit: The value that is explained: the class's logit, or the difference of two.
        bias: The head's bias for it, or the difference of two.
    """

    logits: FloatArray
    class_index: int
    logit: float
    bias: float


def explain_target(
    activation_maps: Maps,
    terms: CamTerms,
    score: ExplainedScore,
    phrases: Sequence[str],
    wording: Wording,
    phrase_filter: PhraseFilter,
) -> Rationale:
    """Explain one logit, or a difference of two.

    Args:
        activation_maps: (D, H, W).
        terms: Result of the CAM method.
        score: The score that is explained.
        phrases: V phrases of the vocabulary.
        wording: Converts evidence to phrases.
        phrase_filter: Phrases that the request admits.
    """
    cam_weights = terms.weights
    evidence = channel_evidence(cam_weights, activation_maps)
    choice = wording.choose(evidence, score.logits, score.class_index, phrase_filter)
    supports = wording.supports(choice.indices)
    assignment = strongest_support(supports, wording.min_support)
    groups, rest = saliency_groups(
        assignment, cam_weights, activation_maps, evidence, contrasts(supports)
    )
    own_effects = effects(evidence, supports)
    chosen = tuple(
        Phrase(
            text=phrases[index],
            vocabulary_index=index,
            score=float(choice.scores[place]),
            similarity=float(choice.similarities[place]),
            evidence=groups[place].evidence,
            effect=float(own_effects[place]),
            probability=None
            if choice.probabilities is None
            else float(choice.probabilities[place]),
            kind=wording.kinds[index],
        )
        for place, index in enumerate(choice.indices.tolist())
    )
    whole = terms.saliency_map
    if whole is None and isinstance(activation_maps, np.ndarray):
        whole = saliency_map(cam_weights, activation_maps)
    elif whole is None:  # one visit to the device is enough
        whole = np.sum([own.saliency_map for own in (*groups, rest)], axis=0)
    gap = score.logit - score.bias - float(evidence.sum())
    return Rationale(
        score.logit, score.bias, gap, whole, chosen, groups, rest, terms.in_logit_units, evidence
    )
