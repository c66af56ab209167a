"""Two audits of the same data, such as before and after a training, compared image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from textcam_client.audit.errors import NotComparable
from textcam_client.audit.findings.model import Estimate, Finding, NothingFound
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.wording import interval, points, scaled
from textcam_client.audit.records.evidence import EvidenceTable
from textcam_client.audit.statistics.intervals import mean_estimates
from textcam_client.audit.statistics.maximum import Sample, Tested, maximum_test
from textcam_client.audit.statistics.pairs import flips, holm
from textcam_client.audit.statistics.units import RIGHT, UNJUDGED, Units, units_of

_ACCURACY = "accuracy, image by image"
_EVIDENCE = "evidence, image by image"


@dataclass(frozen=True)
class Changes:
    """Differences of a second audit from a first.

    Attributes:
        findings: The strongest first.
        nothing_found: Classes whose evidence did not change.
        pairs: Images that both audits have in their statistics.
        notes: Sentences that a reader must know.
    """

    findings: list[Finding]
    nothing_found: list[NothingFound]
    pairs: int
    notes: list[str] = field(default_factory=list)


def compare(
    before: EvidenceTable, after: EvidenceTable, settings: FindingSettings | None = None
) -> Changes:
    """Compare two audits on the images that both have: same row, same label, same content.

    Half of the level goes to differences of evidence, half to those of accuracy.

    Raises:
        NotComparable: The audits share no image.
    """
    settings = settings or FindingSettings()
    pairs = _Pairs.of(before, after)
    if not len(pairs.class_index):
        raise NotComparable(
            f"the audits of {before.data} and {after.data} share no image, which is the same row "
            "id, explained class and content: compare with an audit of the same data set"
        )
    findings, nothing = _evidence(pairs, settings)
    findings += _accuracy(pairs, settings)
    findings.sort(key=lambda found: (found.adjusted_p, -abs(found.effect.value), found.finding_id))
    return Changes(findings, nothing, len(pairs.class_index), pairs.notes(before, after))


@dataclass(frozen=True)
class _Pairs:
    """Images of both audits.

    Attributes:
        names: Concepts that both vocabularies have.
        class_names: Of the first audit.
        class_index: int32 (P,).
        search: bool (P,).
        difference: csr_array (P, K): evidence after less before.
        right: int8 (P,) before and after.
        index: int64 (P,): place in the data set.
        sizes: Images in the statistics before and after.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    class_index: NDArray[np.int32]
    search: NDArray[np.bool_]
    difference: csr_array
    right: tuple[NDArray[np.int8], NDArray[np.int8]]
    index: NDArray[np.int64]
    sizes: tuple[int, int]

    @staticmethod
    def of(before: EvidenceTable, after: EvidenceTable) -> _Pairs:
        first, second = units_of(before), units_of(after)
        own, other = _matched(before, first, after, second)
        names = tuple(name for name in before.names if name in set(after.names))
        values = [
            units.evidence[places][:, [table.names.index(name) for name in names]]
            for table, units, places in ((before, first, own), (after, second, other))
        ]
        return _Pairs(
            names,
            before.class_names,
            first.class_index[own],
            first.search[own],
            values[1] - values[0],
            (first.right[own], second.right[other]),
            before.index[first.row[own]],
            (len(first.row), len(second.row)),
        )

    def notes(self, before: EvidenceTable, after: EvidenceTable) -> list[str]:
        """Say what the two audits do not share."""
        left = len(set(before.names) ^ set(after.names))
        notes = []
        if left:
            notes.append(f"{left} concepts are in one audit only and are not compared.")
        if len(self.class_index) < max(self.sizes):
            notes.append(
                f"The audits are compared on {len(self.class_index)} images, of {self.sizes[0]} in "
                f"the first and {self.sizes[1]} in the second: those with the same row id, "
                "explained class and content."
            )
        return notes


def _matched(
    before: EvidenceTable, first: Units, after: EvidenceTable, second: Units
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of units that are the same image and explained class in both audits."""

    def keys(table: EvidenceTable, units: Units) -> NDArray[np.void]:
        parts = (table.row_key, table.content_group, table.target_index.astype(np.int64))
        joined = np.ascontiguousarray(np.stack([part[units.row] for part in parts], 1))
        return joined.view(np.dtype((np.void, joined.itemsize * 3))).ravel()

    _, own, other = np.intersect1d(
        keys(before, first), keys(after, second), assume_unique=True, return_indices=True
    )
    order = np.argsort(own)
    return own[order], other[order]


def _evidence(pairs: _Pairs, settings: FindingSettings) -> tuple[list[Finding], list[NothingFound]]:
    loads: dict[tuple[int, ...], Callable[[], Sample]] = {}
    few: list[NothingFound] = []
    for index in np.unique(pairs.class_index).tolist():
        rows = np.flatnonzero(pairs.class_index == index)
        chosen, rest = rows[pairs.search[rows]], rows[~pairs.search[rows]]
        if min(len(chosen), len(rest)) < 2 * settings.least_images:
            reason = f"Too few images: each half needs {2 * settings.least_images}."
            few.append(_nothing(pairs, index, None, reason))
            continue
        loads[(index, 0)] = _loader(pairs, chosen, settings.least_effect)
    plan = settings.plan(2)
    tested = maximum_test(loads, plan)
    findings = [
        finding
        for key, each in tested.items()
        for finding in _shifts(pairs, key[0], each, settings)
    ]
    changed = {finding.class_index for finding in findings}
    quiet = [
        _nothing(pairs, key[0], float(each.bound.max(initial=0.0)), "")
        for key, each in tested.items()
        if key[0] not in changed
    ]
    return findings, few + quiet


def _loader(pairs: _Pairs, rows: NDArray[np.intp], least: float) -> Callable[[], Sample]:
    return lambda: Sample(pairs.difference[rows].toarray(), None, least)


def _shifts(pairs: _Pairs, index: int, tested: Tested, settings: FindingSettings) -> list[Finding]:
    """Return the concepts of a class whose evidence changed."""
    rows = np.flatnonzero((pairs.class_index == index) & ~pairs.search)
    columns = np.flatnonzero(tested.adjusted_p <= settings.plan(2).level)
    values = pairs.difference[rows][:, columns].toarray().astype(np.float64)
    effects = mean_estimates(values, settings.level, settings.seed)
    found = []
    for place, (column, effect) in enumerate(zip(columns.tolist(), effects, strict=True)):
        sign = 1 if tested.difference[column] > 0 else -1
        if effect.value * sign < settings.least_effect:
            continue
        order = np.argsort(-sign * values[:, place], kind="stable")[: settings.example_count]
        name, phrase = pairs.class_names[index], pairs.names[column]
        found.append(
            replace(
                _base(pairs, index, (phrase,), _EVIDENCE, settings),
                statement=f"'{phrase}' gives '{name}' {interval(scaled(effect, sign), 'logits')} "
                f"{'more' if sign > 0 else 'less'} evidence in the second audit.",
                effect=effect,
                adjusted_p=float(tested.adjusted_p[column]),
                counts={"pairs": int((pairs.class_index == index).sum())},
                images=pairs.index[rows[order]].tolist(),
            )
        )
    return found


def _accuracy(pairs: _Pairs, settings: FindingSettings) -> list[Finding]:
    """Return the classes whose accuracy changed, by McNemar's test and Holm's adjustment."""
    before, after = pairs.right
    judged = (before != UNJUDGED) & (after != UNJUDGED)
    classes = np.unique(pairs.class_index[judged]).tolist()
    members = [np.flatnonzero(judged & (pairs.class_index == index)) for index in classes]
    counted = [flips(before[rows] == RIGHT, after[rows] == RIGHT) for rows in members]
    adjusted = holm(np.array([each.p for each in counted]))
    found = []
    for index, rows, each, p in zip(classes, members, counted, adjusted.tolist(), strict=True):
        if p > settings.level / 2:
            continue
        change = (after[rows] == RIGHT).astype(float) - (before[rows] == RIGHT)
        gain = mean_estimates(change[:, None], settings.level, settings.seed)[0]
        turned = rows[np.argsort(change * (-1 if gain.value > 0 else 1), kind="stable")]
        shown = min(settings.example_count, max(each.lost, each.won))
        found.append(
            replace(
                _base(pairs, index, (), _ACCURACY, settings),
                statement=f"Accuracy of '{pairs.class_names[index]}' changed by {points(gain)}: "
                f"{each.lost} of {each.total} answers became wrong, {each.won} became right.",
                effect=gain,
                adjusted_p=p,
                counts={"became wrong": each.lost, "became right": each.won, "pairs": each.total},
                images=pairs.index[turned[:shown]].tolist(),
            )
        )
    return found


def _base(
    pairs: _Pairs, index: int, concepts: tuple[str, ...], basis: str, settings: FindingSettings
) -> Finding:
    """Return a finding that says nothing yet."""
    name = pairs.class_names[index]
    return Finding(
        finding_id=":".join(("comparison", name, basis, *concepts)),
        kind="comparison",
        class_index=index,
        class_name=name,
        concepts=concepts,
        basis=basis,
        statement="",
        effect=Estimate(0.0, None, None),
        adjusted_p=None,
        counts={},
        error_rate=(
            "Two audits that differ by chance alone show one or more differences in at most "
            f"{settings.level:.0%} of comparisons."
        ),
        images=(),
    )


def _nothing(pairs: _Pairs, index: int, bound: float | None, reason: str) -> NothingFound:
    counts = {"pairs": int((pairs.class_index == index).sum())}
    return NothingFound(index, pairs.class_names[index], _EVIDENCE, bound, counts, reason)
