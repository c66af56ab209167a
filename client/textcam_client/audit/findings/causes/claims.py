"""Concepts, and whole logits, that differ between two sides of a class's images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.findings.causes.bases import Basis
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.model import Estimate, FindingKind
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.intervals import difference_estimate
from textcam_client.audit.statistics.maximum import Key, Tested
from textcam_client.audit.statistics.units import Units


@dataclass(frozen=True)
class Shift:
    """Whole logit of a class that differs between the sides of a slice.

    Attributes:
        basis: The comparison.
        effect: Difference in logits, of the half that measures.
        adjusted_p: See Tested.
        statistic: See Tested.
        likeliest: Place of the concept that differs most in the same direction, in the half that
            chooses.
    """

    basis: Basis
    effect: Estimate
    adjusted_p: float
    statistic: float
    likeliest: int


@dataclass(frozen=True)
class Claim:
    """Concept that differs between the sides of a basis.

    Attributes:
        basis: The comparison.
        column: Place of the concept.
        effect: Difference in logits, of the half that measures.
        means: Mean evidence of the first side and of the other, logits, of that half.
        logit: Difference of the class's whole logit, of that half.
        adjusted_p: See Tested.
        statistic: See Tested.
        alike: Places of concepts whose evidence goes with it.
        also: Other comparisons that show it.
        is_sure: False: the concept only differs most where the logit does for sure.
    """

    basis: Basis
    column: int
    effect: Estimate
    means: tuple[float, float]
    logit: Estimate
    adjusted_p: float
    statistic: float
    alike: Sequence[int] = ()
    also: Sequence[str] = field(default=())
    is_sure: bool = True

    @property
    def carried(self) -> bool:
        """True if the class's logit follows the concept: it is not made up for by others."""
        low, high = self.logit.low, self.logit.high
        if low is None or high is None:
            return False
        return bool(low > 0) if self.effect.value > 0 else bool(high < 0)


@dataclass(frozen=True)
class ClaimGroup:
    """Claims of one finding.

    Attributes:
        claims: The claims, that of the largest effect first.
        kind: Kind of the finding.
        shift: The logit that differs for sure as well; None: the first claim is all that is sure.
    """

    claims: list[Claim]
    kind: FindingKind
    shift: Shift | None = None


def claims_of(
    bases: Sequence[Basis],
    tested: Mapping[Key, Tested],
    settings: FindingSettings,
    level: float,
) -> list[Claim]:
    """Return the concepts that the tests show and the measuring half confirms."""
    found = []
    for basis in bases:
        results = tested[basis.key]
        concepts = basis.units.evidence.shape[1]
        for column in np.flatnonzero(results.adjusted_p[:concepts] <= level).tolist():
            claim = claim_of(basis, column, results, settings)
            if claim.effect.value * np.sign(results.difference[column]) >= settings.least_effect:
                found.append(claim)
    return found


def claim_of(basis: Basis, column: int, results: Tested, settings: FindingSettings) -> Claim:
    """Measure how a concept differs between the sides, in the half that measures."""
    one, other = basis.measured(basis.evidence([column])[:, 0])
    return Claim(
        basis,
        column,
        difference_estimate(one, other, settings.level, settings.seed),
        (float(one.mean()), float(other.mean())),
        _logit_difference(basis, settings),
        float(results.adjusted_p[column]),
        float(results.statistic[column]),
    )


def shifts_of(
    bases: Sequence[Basis],
    tested: Mapping[Key, Tested],
    settings: FindingSettings,
    level: float,
) -> dict[Key, Shift]:
    """Return the logits that the tests show and the measuring half confirms, by comparison."""
    found = {}
    for basis in bases:
        results = tested[basis.key]
        if not basis.by_slice or results.adjusted_p[-1] > level:
            continue
        effect, sign = _logit_difference(basis, settings), np.sign(results.difference[-1])
        if effect.value * sign >= settings.least_effect:
            p, statistic = float(results.adjusted_p[-1]), float(results.statistic[-1])
            likeliest = int(np.argmax(sign * results.difference[:-1]))
            found[basis.key] = Shift(basis, effect, p, statistic, likeliest)
    return found


def _logit_difference(basis: Basis, settings: FindingSettings) -> Estimate:
    sides = basis.measured(basis.units.logit[basis.places])
    return difference_estimate(*sides, settings.level, settings.seed)


def merged(
    claims: Sequence[Claim],
    units: Units,
    names: Sequence[str],
    class_name: str,
    alike: float,
) -> list[Claim]:
    """Join the claims of a class whose concepts go together, the largest effect first.

    Each concept stands with the comparison that shows it most surely. Concepts that only repeat
    words of the class's name come last; none is dropped for its words.
    """
    surest: dict[int, Claim] = {}
    for claim in sorted(claims, key=lambda claim: (claim.adjusted_p, -claim.statistic)):
        surest.setdefault(claim.column, claim)
    ordered = sorted(
        claims,
        key=lambda claim: (
            claim is not surest[claim.column],
            repeats(names[claim.column], class_name),
            -abs(claim.effect.value),
            names[claim.column],
        ),
    )
    columns = sorted({claim.column for claim in ordered})
    place = {column: number for number, column in enumerate(columns)}
    related = _correlations(units.evidence[:, columns].toarray()) >= alike
    found: list[Claim] = []
    for claim in ordered:
        for number, own in enumerate(found):
            if related[place[claim.column], place[own.column]]:
                found[number] = _joined(own, claim)
                break
        else:
            found.append(claim)
    return found


def repeats(phrase: str, class_name: str) -> bool:
    """Return True if each word of a phrase is a word of the class's name."""
    return set(phrase.casefold().split()) <= set(class_name.casefold().split())


def spurious(claim: Claim, class_name: str, names: Sequence[str], lists: ConceptLists) -> bool:
    """Decide whether a claim shows a spurious cue, or the cause of errors only.

    The user's list decides where there is one. Else a slice does if the class's logit follows it;
    right against wrong alone does not, since a class's own concepts differ there too.
    """
    allowed = lists.is_allowed(class_name, names[claim.column])
    if allowed is not None:
        return not allowed
    return claim.basis.by_slice and claim.carried


def _joined(own: Claim, other: Claim) -> Claim:
    also = list(own.also)
    if other.basis.text != own.basis.text and other.basis.text not in also:
        also.append(other.basis.text)
    alike = list(own.alike)
    if other.column != own.column and other.column not in alike:
        alike.append(other.column)
    return replace(own, alike=tuple(alike), also=tuple(also))


def _correlations(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the size of the columns' correlations (K, K); constant columns correlate with none."""
    centred = values.astype(np.float64) - values.mean(0)
    norm = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    found = np.abs(unit.T @ unit)
    np.fill_diagonal(found, 1)
    return np.asarray(found)
