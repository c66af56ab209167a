"""Sentences: a rationale in English, with the meaning of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textcam_service.core.types import Phrase, Prediction, Rationale

_SMALL_GAP = 1e-3
_EVEN = 0.5


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
