"""Parts of the page that need no script: what the template shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textcam_client.audit.findings.model import AuditSummary, ClassSummary, Estimate, Finding
from textcam_client.audit.report.drawings import Axis, axis
from textcam_client.audit.report.page_data import OtherAudit, PageRow
from textcam_client.audit.report.thumbnails import FittedThumbnails
from textcam_client.audit.report.wording import KINDS

FINDINGS_WITH_IMAGES = 24
"""Findings whose thumbnails are there without scripts."""

IMAGES_PER_FINDING = 8
CLASSES_IN_FULL = 60
"""Classes whose concept tables are there without scripts."""


@dataclass(frozen=True)
class Example:
    """Image beside a finding.

    Attributes:
        place: Its place on the page.
        name: Its row_id.
        caption: What is known of it, in a few words.
        right: See PageRow.right.
        url: Data URL; "": none without scripts.
    """

    place: int
    name: str
    caption: str
    right: bool | None
    url: str


@dataclass(frozen=True)
class FindingView:
    """Finding with what stands beside it."""

    finding: Finding
    kind: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class ComparisonView:
    """Comparison of two audits.

    Attributes:
        name: The other audit's model.
        accuracy: Of the other audit.
        findings: Differences that were tested.
        both: Images that both audits answered.
        cells: Numbers of images by (right here, right there).
        classes: (class, accuracy here, accuracy there, both where known).
    """

    name: str
    accuracy: Estimate | None
    findings: Sequence[FindingView]
    both: int
    cells: Mapping[tuple[bool, bool], int]
    classes: Sequence[tuple[ClassSummary, Estimate, Estimate]]


@dataclass(frozen=True)
class StaticView:
    """Everything that the page says without scripts."""

    summary: AuditSummary
    findings: Sequence[FindingView]
    effects: Axis
    evidence: Axis
    comparison: ComparisonView | None
    notes: Sequence[str]

    @property
    def classes_in_full(self) -> Sequence[ClassSummary]:
        """Return the classes whose concept tables are written without scripts."""
        return self.summary.classes[:CLASSES_IN_FULL]


class Examples:
    """Maker of the images beside findings."""

    def __init__(
        self, rows: Sequence[PageRow], class_names: Sequence[str], thumbnails: FittedThumbnails
    ) -> None:
        self._rows = rows
        self._names = class_names
        self._thumbnails = thumbnails
        self._places = {row.index: place for place, row in enumerate(rows)}

    def of(self, findings: Sequence[Finding]) -> list[FindingView]:
        """Return findings with their images; the first ones' are written into the page."""
        return [
            FindingView(
                finding,
                KINDS[finding.kind],
                [
                    self._example(self._places[index], number < FINDINGS_WITH_IMAGES)
                    for index in finding.images
                    if index in self._places
                ][:IMAGES_PER_FINDING],
            )
            for number, finding in enumerate(findings)
        ]

    def _example(self, place: int, written: bool) -> Example:
        row = self._rows[place]
        words = [f"label {row.label}"] if row.label is not None else []
        if row.predictions:
            words.append(f"predicted {class_name(self._names, row.predictions[0][0])}")
        words += [f"{column} {value}" for column, value in sorted(row.slices.items())]
        url = self._thumbnails.url(place) if written else ""
        return Example(place, row.row_id, ", ".join(words), row.right, url)


def class_name(names: Sequence[str], index: int) -> str:
    """Return a class's name, or its number where there is none."""
    return names[index] if 0 <= index < len(names) and names[index] else f"class {index}"


def other_name(summary: AuditSummary, other: OtherAudit) -> str:
    """Return the name of the audit that is compared with: its model's, if that tells them apart."""
    model = other.summary.model
    return model if model != summary.model else f"{model}, the other audit"


def written_images(findings: Sequence[Finding]) -> int:
    """Return how many thumbnails are there without scripts, at most."""
    return sum(min(len(own.images), IMAGES_PER_FINDING) for own in findings[:FINDINGS_WITH_IMAGES])


def static_view(
    summary: AuditSummary,
    rows: Sequence[PageRow],
    examples: Examples,
    other: OtherAudit | None,
    notes: Sequence[str],
) -> StaticView:
    """Return what the template shows."""
    compared = other.findings if other else ()
    return StaticView(
        summary=summary,
        findings=examples.of(summary.findings),
        effects=axis(own.effect for own in (*summary.findings, *compared)),
        evidence=axis(concept.evidence for own in summary.classes for concept in own.concepts),
        comparison=_comparison(summary, rows, examples, other) if other else None,
        notes=[*summary.notes, *notes],
    )


def _comparison(
    summary: AuditSummary, rows: Sequence[PageRow], examples: Examples, other: OtherAudit
) -> ComparisonView:
    there = {row.row_id: row for row in other.rows}
    cells = {(here, far): 0 for here in (True, False) for far in (True, False)}
    for row in rows:
        match = there.get(row.row_id)
        if match is not None and row.right is not None and match.right is not None:
            cells[row.right, match.right] += 1
    others = {own.class_index: own.accuracy for own in other.summary.classes}
    pairs = [
        (own, own.accuracy, accuracy)
        for own in summary.classes
        if own.accuracy and (accuracy := others.get(own.class_index))
    ]
    return ComparisonView(
        name=other_name(summary, other),
        accuracy=other.summary.accuracy,
        findings=examples.of(other.findings),
        both=sum(cells.values()),
        cells=cells,
        classes=pairs,
    )
