"""The numbers of an answer in people's words, as figures and the command line say them."""

from __future__ import annotations

from typing import Literal

from textcam_client.types import Explanation, Phrase, SaliencyGroup

NOTHING_SAID = (
    "No phrase is said: none of those allowed is likely enough to be true of what the network saw."
)


def chance(phrase: Phrase) -> str:
    """The phrase's probability: "94%", never quite 0 or 100; "" where it has none."""
    if phrase.probability is None:
        return ""
    percent = round(100 * phrase.probability)
    if percent >= 100:
        return ">99%"
    return "<1%" if percent <= 0 else f"{percent}%"


def amount(explanation: Explanation, evidence: float) -> str:
    """An amount of the logit; else a share of all evidence, for and against."""
    if explanation.in_logit_units:
        return number(evidence, "+")
    # Rounded first, and 0.0 added: a share that rounds to nothing has no minus.
    return f"{round(evidence / (sum(map(abs, _parts(explanation))) or 1.0), 2) + 0.0:+.0%}"


def effect(explanation: Explanation, phrase: Phrase) -> str:
    """The phrase's effect, as `amount`; "" from a server that does not tell."""
    return amount(explanation, phrase.effect) if phrase.effect else ""


def number(value: float, sign: Literal["", "+"] = "") -> str:
    """With one decimal, and no minus where that is nothing."""
    return f"{round(value, 1) + 0.0:{sign}.1f}"


def explained(explanation: Explanation) -> str:
    """What the evidence adds up to."""
    return "logit" if explanation.reference is None else "difference of logits"


def whole_evidence(explanation: Explanation) -> float:
    """Of all phrases and the rest."""
    return sum(_parts(explanation))


def sums(explanation: Explanation) -> str:
    """How the parts add up to what is explained."""
    phrases = amount(explanation, whole_evidence(explanation) - explanation.rest.evidence)
    parts = f"phrases {phrases}   rest {amount(explanation, explanation.rest.evidence)}   "
    whole = f"{explained(explanation)} {number(explanation.logit)}"
    if not explanation.in_logit_units:
        return f"{parts}of the method's evidence, not of the {whole}"
    gap = f"gap {explanation.gap:+.1f}   " if f"{abs(explanation.gap):.1f}" != "0.0" else ""
    return f"{parts}bias {number(explanation.bias, '+')}   {gap}= {whole}"


def in_order(explanation: Explanation) -> list[SaliencyGroup]:
    """The phrases' groups, best said first; from a server that does not tell, by evidence."""
    if any(phrase.probability is not None for phrase in explanation.phrases):
        return list(explanation.groups)
    return sorted(explanation.groups, key=lambda group: -group.evidence)


def meanings(explanation: Explanation) -> list[str]:
    """What the numbers of the first phrase mean, and the maps; a sentence each."""
    groups = in_order(explanation)
    if not groups or groups[0].phrase is None:
        return []
    phrase = groups[0].phrase
    told = []
    if chance(phrase):
        told.append(
            f"{chance(phrase)}: the chance that the phrase is true of what the network saw, as "
            "calibrated with its bank."
        )
    whole = explained(explanation) if explanation.in_logit_units else "method's evidence"
    parts = "shares, rest and bias" if explanation.in_logit_units else "shares and rest"
    told.append(
        f"{amount(explanation, phrase.evidence)}: its share of the {whole}; {parts} add up to the "
        "whole."
    )
    if effect(explanation, phrase):
        told.append(
            f"effect {effect(explanation, phrase)}: all evidence, by how far it supports the "
            "phrase; phrases overlap, so effects do not add up."
        )
    return told


def _parts(explanation: Explanation) -> list[float]:
    return [*(phrase.evidence for phrase in explanation.phrases), explanation.rest.evidence]
