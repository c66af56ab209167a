"""Findings in words: what is known, and what a person must judge."""

from __future__ import annotations

from collections.abc import Sequence

from textcam_client.audit.findings.causes.claims import Claim
from textcam_client.audit.findings.model import Estimate


def interval(estimate: Estimate, unit: str = "") -> str:
    """Return an estimate in words: "1.10 (0.98 to 1.22) logits"."""
    value = f"{estimate.value:.2f}"
    if estimate.low is not None and estimate.high is not None:
        value += f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{value} {unit}".rstrip()


def points(estimate: Estimate) -> str:
    """Return a difference of rates in percentage points."""
    return interval(scaled(estimate, 100), "percentage points")


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """Multiply an estimate; a negative factor swaps its ends."""
    ends = [None if end is None else end * factor for end in (estimate.low, estimate.high)]
    low, high = ends if factor >= 0 else ends[::-1]
    return Estimate(estimate.value * factor, low, high, estimate.note)


def claim_statement(
    claims: Sequence[Claim],
    phrases: Sequence[str],
    class_name: str,
    gap: Estimate,
    borrowed: tuple[int, int],
    sign: int,
) -> str:
    """Say what claims of one comparison show.

    Args:
        claims: The claims, the first of the finding first.
        phrases: Their concepts.
        class_name: The class.
        gap: Difference of accuracy, of the first side to the other.
        borrowed: See errors.borrowed, of the first concept.
        sign: 1 if the comparison's first side has more, else -1.
    """
    first = claims[0]
    more, less = first.basis.names[::sign]
    said = []
    if first.basis.by_slice:
        said.append(
            f"In images with {more}, the logit of '{class_name}' is higher by "
            f"{interval(scaled(first.logit, sign))} than in those with {less}"
            + (f", its accuracy by {points(scaled(gap, sign))}." if gap.low is not None else ".")
        )
    for claim, phrase in zip(claims, phrases, strict=True):
        high, low = claim.means[::sign]
        if not claim.is_sure:
            said.append(
                f"No phrase alone accounts for that for sure; '{phrase}' differs most, by "
                f"{interval(scaled(claim.effect, sign), 'logits')} ({high:.2f} against {low:.2f})."
            )
            continue
        said.append(
            f"'{phrase}' gives it {interval(scaled(claim.effect, sign), 'logits')} more there "
            f"({high:.2f} against {low:.2f})."
            if first.basis.by_slice
            else f"'{phrase}' gives '{class_name}' {interval(scaled(claim.effect, sign), 'logits')}"
            f" more evidence in images with {more} than with {less} ({high:.2f} against {low:.2f})."
        )
    if first.also:
        said.append(f"Also seen in: {'; '.join(first.also)}.")
    total, carried = borrowed
    if carried:
        said.append(
            f"'{phrases[0]}' is in {carried} of {total} images of other classes that were taken "
            f"for '{class_name}'."
        )
    return " ".join(said)


def judgement(claim: Claim, listed: bool | None) -> str:
    """Say what a claim leaves to a person; `listed`: the user's list allows it, None: no list."""
    if listed is False:
        return "It is not on the list of concepts allowed for the class."
    if listed:
        return "It is on the list of concepts allowed for the class."
    if claim.basis.by_slice:
        return "A person must judge if this slice should matter to the class."
    return (
        "If it is part of the class, the model overlooked it; if not, it is a spurious cue. A "
        "person, or a list of allowed concepts, must judge which."
    )
