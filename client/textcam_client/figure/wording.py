"""The numbers of a result in words, for figures and the command line."""

from __future__ import annotations

from typing import Literal

from textcam_client.types import Explanation, Phrase, SaliencyGroup

NOTHING_SAID = (
    "No phrase: none of those allowed is likely enough to be true of what the network saw."
)


def chance(phrase: Phrase) -> str:
    """Return the phrase's probability: "94%", never 0% or 100%; "" if it has none."""
    if phrase.probability is None:
        return ""
    percent = round(100 * phrase.probability)
    if percent >= 100:
        return ">99%"
    return "<1%" if percent <= 0 else f"{percent}%"


def amount(explanation: Explanation, evidence: float) -> str:
    """Return evidence as an amount of the logit, or else as a share of all evidence."""
    if explanation.in_logit_units:
        return number(evidence, "+")
    # Rounding first and adding 0.0 avoids a minus before a zero.
    return f"{round(evidence / (sum(map(abs, _parts(explanation))) or 1.0), 2) + 0.0:+.0%}"


def effect(explanation: Explanation, phrase: Phrase) -> str:
    """Return the phrase's effect as `amount` does; "" from older servers."""
    return amount(explanation, phrase.effect) if phrase.effect else ""


def number(value: float, sign: Literal["", "+"] = "") -> str:
    """Return a number with one decimal, without a minus before zero."""
    return f"{round(value, 1) + 0.0:{sign}.1f}"


def explained(explanation: Explanation) -> str:
    """Return the name of the explained number."""
    return "logit" if explanation.reference is None else "difference of logits"


def whole_evidence(explanation: Explanation) -> float:
    """Return the evidence of all phrases and the rest."""
    return sum(_parts(explanation))


def sums(explanation: Explanation) -> str:
    """Return the sum of the parts, up to the explained number."""
    phrases = amount(explanation, whole_evidence(explanation) - explanation.rest.evidence)
    parts = f"phrases {phrases}   rest {amount(explanation, explanation.rest.evidence)}   "
    whole = f"{explained(explanation)} {number(explanation.logit)}"
    if not explanation.in_logit_units:
        return f"{parts}of the method's evidence, not of the {whole}"
    gap = f"gap {explanation.gap:+.1f}   " if f"{abs(explanation.gap):.1f}" != "0.0" else ""
    return f"{parts}bias {number(explanation.bias, '+')}   {gap}= {whole}"


def in_order(explanation: Explanation) -> list[SaliencyGroup]:
    """Return the phrases' groups, best first; by evidence if phrases have no probability."""
    if any(phrase.probability is not None for phrase in explanation.phrases):
        return list(explanation.groups)
    return sorted(explanation.groups, key=lambda group: -group.evidence)


def meanings(explanation: Explanation) -> list[str]:
    """Return a sentence on the meaning of each number of the first phrase."""
    groups = in_order(explanation)
    if not groups or groups[0].phrase is None:
        return []
    phrase = groups[0].phrase
    sentences = []
    if chance(phrase):
        sentences.append(
            f"{chance(phrase)}: the chance that the phrase is true of what the network saw, as "
            "calibrated with its bank."
        )
    whole = explained(explanation) if explanation.in_logit_units else "method's evidence"
    parts = "shares, rest and bias" if explanation.in_logit_units else "shares and rest"
    sentences.append(
        f"{amount(explanation, phrase.evidence)}: its share of the {whole}; {parts} add up to the "
        "whole."
    )
    if effect(explanation, phrase):
        sentences.append(
            f"effect {effect(explanation, phrase)}: all evidence, by how far it supports the "
            "phrase; phrases overlap, so effects do not add up."
        )
    return sentences


def _parts(explanation: Explanation) -> list[float]:
    return [*(phrase.evidence for phrase in explanation.phrases), explanation.rest.evidence]
