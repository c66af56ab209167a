"""The whole of the method for one target, from activation maps to a rationale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from textcam_service.core.cam import channel_evidence, saliency_map
from textcam_service.core.groups import assign_channels, saliency_groups
from textcam_service.core.maps import Maps
from textcam_service.core.methods.base import CamTerms
from textcam_service.core.phrases import choose_phrases, evidence_embedding
from textcam_service.core.types import (
    Float32Array,
    Phrase,
    Prediction,
    Rationale,
    RationaleSettings,
)

_SMALL_GAP = 1e-3


def explain_target(
    activation_maps: Maps,
    terms: CamTerms,
    logit: float,
    bias: float,
    channel_embeddings: Float32Array,
    mean_embedding: Float32Array,
    phrases: Sequence[str],
    text_embeddings: Float32Array,
    count: int,
    settings: RationaleSettings,
) -> Rationale:
    """Explain one logit, or a difference of two.

    Args:
        activation_maps: (D, H, W).
        terms: What the CAM method found.
        logit: What is explained.
        bias: The head's bias for it, or the difference of two.
        channel_embeddings: (D, E) of the concept bank.
        mean_embedding: (E,) of the probing set.
        phrases: V phrases of the vocabulary.
        text_embeddings: (V, E) centred unit vectors.
        count: How many phrases to choose at most.
        settings: See RationaleSettings.
    """
    cam_weights = terms.weights
    evidence = channel_evidence(cam_weights, activation_maps)
    embedding = evidence_embedding(evidence, channel_embeddings, mean_embedding, settings)
    choice = choose_phrases(embedding, text_embeddings, count, settings)
    assignment = assign_channels(
        channel_embeddings, text_embeddings[choice.indices], settings.min_support
    )
    groups, rest = saliency_groups(
        assignment, len(choice.indices), cam_weights, activation_maps, evidence
    )
    chosen = tuple(
        Phrase(phrases[index], int(index), float(score), float(similarity), group.evidence)
        for index, score, similarity, group in zip(
            choice.indices, choice.scores, choice.similarities, groups, strict=True
        )
    )
    whole = terms.saliency_map
    if whole is None and isinstance(activation_maps, np.ndarray):
        whole = saliency_map(cam_weights, activation_maps)
    elif whole is None:  # one visit to the device is enough
        whole = np.sum([own.saliency_map for own in (*groups, rest)], axis=0)
    gap = logit - bias - float(evidence.sum())
    return Rationale(logit, bias, gap, whole, chosen, groups, rest, terms.in_logit_units)


def sentence(target: Prediction, against: Prediction | None, rationale: Rationale) -> str:
    """Say a rationale in one English sentence: what is for the target, then what is against it.

    Every number is an amount of the logit; where the method has a scale of its own, a signed
    share of all its evidence, for and against.
    """
    rather = f" rather than '{against.class_name}'" if against else ""
    subject = f"'{target.class_name}'{rather} ({target.probability:.0%})"
    said = _amount if rationale.in_logit_units else _share_of(rationale)
    phrases = sorted(rationale.phrases, key=lambda phrase: -phrase.evidence)
    seen = _seen([(phrase.text, said(phrase.evidence)) for phrase in phrases])
    whole = "difference of logits" if against else "logit"
    others, logit = f"other channels add {said(rationale.rest.evidence)}", _amount(rationale.logit)
    if not rationale.in_logit_units:
        rest = f"{others}, in shares of the method's evidence, not of the {whole} {logit}"
    elif abs(rationale.gap) < _SMALL_GAP * max(1.0, abs(rationale.logit)):
        rest = f"{others} and the bias {_amount(rationale.bias)} to make the {whole} {logit}"
    else:
        left = _amount(rationale.bias + rationale.gap)
        rest = f"{others}; of the {whole} {logit} the method leaves {left} open"
    return f"{subject}: {seen}; {rest}."


def _seen(phrases: Sequence[tuple[str, str]]) -> str:
    """Say phrases with their spoken evidence, which comes in falling order."""
    pro = [f"{text} ({said})" for text, said in phrases if not said.startswith("-")]
    contra = [f"{text} ({said})" for text, said in reversed(phrases) if said.startswith("-")]
    if not phrases:
        return "no phrase of the vocabulary fits what the model saw"
    if not pro:
        return f"the phrases speak against it: {_listed(contra)}"
    return f"the model saw {_listed(pro)}" + (f"; against it: {_listed(contra)}" if contra else "")


def _listed(spoken: Sequence[str]) -> str:
    return spoken[0] if len(spoken) == 1 else ", ".join(spoken[:-1]) + " and " + spoken[-1]


def _amount(evidence: float) -> str:
    # Rounded first, and 0.0 added: what rounds to nothing has no minus.
    return f"{round(evidence, 1) + 0.0:+.1f}"


def _share_of(rationale: Rationale) -> Callable[[float], str]:
    """How to say evidence as a share of all of it, for and against."""
    parts = [*(phrase.evidence for phrase in rationale.phrases), rationale.rest.evidence]
    whole = sum(map(abs, parts)) or 1.0
    return lambda evidence: f"{round(evidence / whole, 2) + 0.0:+.0%}"
