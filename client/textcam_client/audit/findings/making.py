"""Findings from what the tests show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from textcam_client.audit.findings.causes.bases import Basis
from textcam_client.audit.findings.causes.claims import (
    Claim,
    ClaimGroup,
    Shift,
    claim_of,
    claims_of,
    merged,
    shifts_of,
    spurious,
)
from textcam_client.audit.findings.causes.conjunctions import Pair
from textcam_client.audit.findings.causes.errors import borrowed, error_groups
from textcam_client.audit.findings.causes.places import Place
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.model import Estimate, Finding, FindingKind
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.wording import (
    claim_statement,
    interval,
    judgement,
    points,
    scaled,
)
from textcam_client.audit.records.evidence import EvidenceTable
from textcam_client.audit.statistics.intervals import mean_estimates, proportion_difference
from textcam_client.audit.statistics.maximum import Key, Tested
from textcam_client.audit.statistics.units import UNJUDGED, Units

ERRORS = "errors by their strongest concept"
NO_TEST = "No test: a count of what was seen."


class FindingMaker:
    """Makes findings of one audit.

    Attributes:
        table: The audit's evidence.
        units: Its units.
        lists: Concepts that the user allows or bans.
        settings: Limits.
        shared: Number of tests that share the level: the maximum test, and that of places.
    """

    def __init__(
        self,
        table: EvidenceTable,
        units: Units,
        lists: ConceptLists,
        settings: FindingSettings,
    ) -> None:
        self.table = table
        self.units = units
        self.lists = lists
        self.settings = settings
        self.shared = 1 if table.inside is None else 2

    @property
    def error_rate(self) -> str:
        """Return what the tests guarantee together."""
        return (
            f"An audit of a model without any such difference shows one or more in at most "
            f"{self.settings.level:.0%} of audits: all concepts, classes and comparisons count "
            "as one family of tests."
        )

    def claims(
        self, bases: Sequence[Basis], tested: Mapping[Key, Tested], level: float
    ) -> list[ClaimGroup]:
        """Return the claims of each finding, those of alike concepts joined.

        The cues that one slice shows in a class are one finding. If the logit differs between
        values of a slice column and no concept does for sure, the likeliest one stands for it.
        """
        found: dict[tuple[object, ...], ClaimGroup] = {}
        shifts = shifts_of(bases, tested, self.settings, level)
        claims = claims_of(bases, tested, self.settings, level)
        spans = dict(self.units.classes())
        for index in sorted({claim.basis.class_index for claim in claims}):
            name = self.table.class_names[index]
            own = [
                claim
                for claim in claims
                if claim.basis.class_index == index and (not claim.basis.by_slice or claim.carried)
            ]
            units = self.units.take(spans[index])
            for claim in merged(own, units, self.table.names, name, self.settings.alike):
                kind: FindingKind = "error_cause"
                key: tuple[object, ...] = (claim.basis.key, claim.column)
                if spurious(claim, name, self.table.names, self.lists):
                    kind = "spurious_cue"
                    if claim.basis.by_slice:
                        key = (claim.basis.key, claim.effect.value > 0)
                group = found.setdefault((kind, *key), ClaimGroup([], kind))
                group.claims.append(claim)
        groups = [
            replace(group, shift=shifts.get(group.claims[0].basis.key))
            if group.kind == "spurious_cue"
            else group
            for group in found.values()
        ]
        return groups + self._nameless(groups, shifts.values(), tested)

    def _nameless(
        self, groups: Sequence[ClaimGroup], shifts: Iterable[Shift], tested: Mapping[Key, Tested]
    ) -> list[ClaimGroup]:
        """Return a finding for the surest shift of each slice column that no group shows."""
        shown = {
            (group.claims[0].basis.class_index, group.claims[0].basis.column) for group in groups
        }
        found = []
        for shift in sorted(shifts, key=lambda shift: (shift.adjusted_p, -shift.statistic)):
            basis = shift.basis
            name = self.table.class_names[basis.class_index]
            phrase = self.table.names[shift.likeliest]
            place = (basis.class_index, basis.column)
            if place not in shown and self.lists.is_allowed(name, phrase) is None:
                shown.add(place)
                claim = claim_of(basis, shift.likeliest, tested[basis.key], self.settings)
                found.append(ClaimGroup([replace(claim, is_sure=False)], "spurious_cue", shift))
        return found

    def of_claims(self, group: ClaimGroup) -> Finding:
        """Return the finding of claims of one comparison, the first of which names it."""
        claims, kind, shift = group.claims, group.kind, group.shift
        first, names = claims[0], self.table.names
        basis, measured = first.basis, shift or first
        sign = 1 if measured.effect.value > 0 else -1
        class_name = self.table.class_names[basis.class_index]
        phrases = [names[claim.column] for claim in claims]
        total = borrowed(self.table, basis.class_index, first.column, self.settings.least_effect)
        gap = self._accuracy_gap(basis)
        statement = claim_statement(claims, phrases, class_name, gap, total, sign)
        listed = self.lists.is_allowed(class_name, phrases[0])
        return replace(
            self._base(kind, basis.class_index, phrases, basis.toward(sign)),
            statement=f"{statement} {judgement(first, listed)}",
            effect=scaled(measured.effect, sign),
            of_logit=shift is not None,
            is_named=first.is_sure,
            adjusted_p=measured.adjusted_p,
            counts=basis.counts,
            images=self._extremes(first, sign),
            alike=[names[column] for claim in claims for column in claim.alike],
        )

    def of_pair(self, pair: Pair) -> Finding:
        """Return the finding of a conjunction."""
        index, names = pair.basis.class_index, self.table.names
        present, absent = names[pair.present], names[pair.absent]
        wrong = np.flatnonzero(pair.holds & ~pair.basis.side)
        rows = self.units.row[pair.basis.places[wrong[: self.settings.example_count]]]
        basis = f"'{present}' without '{absent}'"
        return replace(
            self._base("conjunction", index, (present, absent), basis),
            statement=f"Where '{present}' speaks for '{self.table.class_names[index]}' and "
            f"'{absent}' does not, the error rate is {points(pair.error_rate)} higher than in "
            "its other images. Neither concept alone accounts for it.",
            effect=pair.error_rate,
            adjusted_p=pair.adjusted_p,
            counts={"with both conditions": pair.count, "others": len(pair.holds) - pair.count},
            images=self.table.index[rows].tolist(),
        )

    def of_places(self, places: Sequence[Place]) -> list[Finding]:
        """Return the findings of concepts that lie outside the objects."""
        level = self.settings.level / self.shared
        found = []
        for place in places:
            name = self.table.class_names[place.class_index]
            allowed = self.lists.is_allowed(name, self.table.names[place.column])
            if place.adjusted_p <= level and not allowed:
                found.append(self._of_place(place))
        return found

    def _of_place(self, place: Place) -> Finding:
        phrase, name = self.table.names[place.column], self.table.class_names[place.class_index]
        own = self.units.take(dict(self.units.classes())[place.class_index])
        order = np.argsort(-own.evidence[:, [place.column]].toarray()[:, 0], kind="stable")
        rows = own.row[order[: self.settings.example_count]]
        basis = "share of the map inside the object's mask"
        return replace(
            self._base("spurious_cue", place.class_index, (phrase,), basis),
            statement=f"'{phrase}' gives '{name}' {interval(place.evidence, 'logits')} of "
            f"evidence, but only {interval(place.inside)} of its map lies inside the "
            f"object's mask. Of the other concepts' maps, {place.others:.2f} does. A person must "
            "judge if the class may be known by what lies around the object.",
            effect=place.evidence,
            adjusted_p=place.adjusted_p,
            counts={"images with the concept and a mask": place.count},
            images=self.table.index[rows].tolist(),
            inside=place.inside,
        )

    def banned(self) -> list[Finding]:
        """Return a finding for each class that a banned concept carries."""
        found = []
        for index, span in self.units.classes():
            name = self.table.class_names[index]
            columns = self.lists.banned_among(name, self.table.names)
            if not columns:
                continue
            own = self.units.take(span)
            values = own.evidence[:, columns].toarray()
            means = mean_estimates(values, self.settings.level, self.settings.seed)
            for place, (column, mean) in enumerate(zip(columns, means, strict=True)):
                if mean.low is not None and mean.low >= self.settings.least_effect:
                    order = np.argsort(-values[:, place], kind="stable")
                    rows = own.row[order[: self.settings.example_count]]
                    found.append(self._of_banned(index, column, mean, rows.tolist()))
        return found

    def _of_banned(self, index: int, column: int, mean: Estimate, rows: list[int]) -> Finding:
        phrase, name = self.table.names[column], self.table.class_names[index]
        return replace(
            self._base("banned_concept", index, (phrase,), "the list of banned concepts"),
            statement=f"'{phrase}', which is banned, gives '{name}' "
            f"{interval(mean, 'logits')} of evidence.",
            effect=mean,
            images=self.table.index[rows].tolist(),
            error_rate=f"Each interval holds with {1 - self.settings.level:.0%}.",
        )

    def of_errors(self) -> list[Finding]:
        """Return groups of wrong answers with the same strongest concept."""
        found = []
        for group in error_groups(self.table, self.settings.least_images):
            phrase, name = self.table.names[group.column], self.table.class_names[group.class_index]
            mean = mean_estimates(group.evidence[:, None], self.settings.level, self.settings.seed)[
                0
            ]
            found.append(
                replace(
                    self._base("error_cause", group.class_index, (phrase,), ERRORS),
                    statement=f"{len(group.rows)} of {group.total} images of other classes that "
                    f"were taken for '{name}' have '{phrase}' as the strongest reason against "
                    f"their own class: {interval(mean, 'logits')}.",
                    effect=mean,
                    counts={"with this reason": len(group.rows), "taken for it": group.total},
                    images=self.table.index[group.rows[: self.settings.example_count]].tolist(),
                    error_rate=NO_TEST,
                )
            )
        return found

    def _base(
        self, kind: FindingKind, class_index: int, concepts: Sequence[str], basis: str
    ) -> Finding:
        """Return a finding that says nothing yet."""
        name = self.table.class_names[class_index]
        return Finding(
            finding_id=":".join((kind, name, basis, *concepts)),
            kind=kind,
            class_index=class_index,
            class_name=name,
            concepts=tuple(concepts),
            basis=basis,
            statement="",
            effect=Estimate(0.0, None, None),
            adjusted_p=None,
            counts={},
            error_rate=self.error_rate,
            images=(),
        )

    def _accuracy_gap(self, basis: Basis) -> Estimate:
        right = self.units.right[basis.places]
        sides = [right[side & (right != UNJUDGED)] for side in (basis.side, ~basis.side)]
        ones, others = ((int((each == 1).sum()), len(each)) for each in sides)
        return proportion_difference(ones, others, self.settings.level)

    def _extremes(self, claim: Claim, sign: int) -> list[int]:
        """Return rows with most evidence on the one side, then those with least on the other."""
        half = self.settings.example_count // 2
        values = claim.basis.evidence([claim.column])[:, 0]
        more = claim.basis.side if sign > 0 else ~claim.basis.side
        high = np.flatnonzero(more)[np.argsort(-values[more], kind="stable")[:half]]
        low = np.flatnonzero(~more)[np.argsort(values[~more], kind="stable")[:half]]
        rows = self.units.row[claim.basis.places[np.concatenate([high, low])]]
        return [int(index) for index in self.table.index[rows]]
