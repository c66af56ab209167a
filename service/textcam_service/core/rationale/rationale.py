"""Rationales: the explanation of one target, from activation maps to phrases and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.cam import channel_evidence, saliency_map
from textcam_service.core.concepts.supports import contrasts, effects, strongest_support
from textcam_service.core.maps import Maps
from textcam_service.core.methods.base import CamTerms
from textcam_service.core.rationale.groups import saliency_groups
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.rationale.wording import Wording
from textcam_service.core.types import FloatArray, Phrase, Prediction, Rationale

_SMALL_GAP = 1e-3
_EVEN = 0.5


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


def sentence(target: Prediction, against: Prediction | None, rationale: Rationale) -> str:
    """Describe a rationale in English, with the meaning of its numbers.

    If the bank is calibrated, each phrase has its probability, its share and its effect; else only
    its share. Numbers are amounts of the logit. If the method has its own scale, they are signed
    shares of all its evidence, for and against.
    """
    rather = f" rather than '{against.class_name}'" if against else ""
    subject = f"'{target.class_name}'{rather} ({target.probability:.0%})"
    said = _amount if rationale.in_logit_units else _share_of(rationale)
    seen = _seen(rationale, said)
    whole = "difference of logits" if against else "logit"
    which = "other" if rationale.phrases else "its"
    others, logit = (
        f"{which} channels add {said(rationale.rest.evidence)}",
        _amount(rationale.logit),
    )
    if not rationale.in_logit_units:
        rest = f"{others}, in shares of the method's evidence, not of the {whole} {logit}"
    elif abs(rationale.gap) < _SMALL_GAP * max(1.0, abs(rationale.logit)):
        rest = f"{others} and the bias {_amount(rationale.bias)} to make the {whole} {logit}"
    else:
        left = _amount(rationale.bias + rationale.gap)
        rest = f"{others}; of the {whole} {logit} the method leaves {left} open"
    calibrated = any(phrase.probability is not None for phrase in rationale.phrases)
    return f"{subject}: {seen}; {rest}." + (f" {_MEANING}" if calibrated else "")


_MEANING = (
    "Shares and other channels add up; an effect counts all channels by how far they support the "
    "phrase, and effects overlap."
)


def _seen(rationale: Rationale, said: Callable[[float], str]) -> str:
    """List the phrases, for the target and then against it; calibrated ones in their order."""
    phrases = rationale.phrases
    if not phrases:
        return "none of the words that may be said is likely enough for what the model saw"
    if all(phrase.probability is not None for phrase in phrases):
        return f"the model saw {_listed([_calibrated(phrase, said) for phrase in phrases])}"
    ranked = sorted(phrases, key=lambda phrase: -phrase.evidence)
    spoken = [(phrase.text, said(phrase.evidence)) for phrase in ranked]
    pro = [f"{text} ({amount})" for text, amount in spoken if not amount.startswith("-")]
    contra = [f"{text} ({amount})" for text, amount in reversed(spoken) if amount.startswith("-")]
    if not pro:
        return f"the phrases speak against it: {_listed(contra)}"
    return f"the model saw {_listed(pro)}" + (f"; against it: {_listed(contra)}" if contra else "")


def _calibrated(phrase: Phrase, said: Callable[[float], str]) -> str:
    chance = phrase.probability or 0.0
    shown = f"{chance:.0%}".replace("100%", ">99%")
    shown = "<1%" if shown == "0%" else shown
    text = phrase.text if chance >= _EVEN else f"possibly {phrase.text}"
    return f"{text} ({shown} likely, share {said(phrase.evidence)}, effect {said(phrase.effect)})"


def _listed(spoken: Sequence[str]) -> str:
    return spoken[0] if len(spoken) == 1 else ", ".join(spoken[:-1]) + " and " + spoken[-1]


def _amount(evidence: float) -> str:
    # Rounded first, and 0.0 added: what rounds to nothing has no minus.
    return f"{round(evidence, 1) + 0.0:+.1f}"


def _share_of(rationale: Rationale) -> Callable[[float], str]:
    """Return a formatter of evidence as a share of all of it, for and against."""
    parts = [*(phrase.evidence for phrase in rationale.phrases), rationale.rest.evidence]
    whole = sum(map(abs, parts)) or 1.0
    return lambda evidence: f"{round(evidence / whole, 2) + 0.0:+.0%}"
