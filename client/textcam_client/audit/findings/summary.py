"""From the evidence of all images to a summary with findings."""

from __future__ import annotations

from collections.abc import Callable

from textcam_client.audit.findings.causes.bases import Basis, bases_of
from textcam_client.audit.findings.causes.claims import repeats
from textcam_client.audit.findings.causes.conjunctions import pair_bases
from textcam_client.audit.findings.causes.places import places_of
from textcam_client.audit.findings.classes import accuracy, class_summary
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.making import FindingMaker
from textcam_client.audit.findings.model import AuditSummary, Finding, NothingFound
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.records.evidence import EvidenceTable
from textcam_client.audit.statistics.maximum import Sample, Tested, maximum_test
from textcam_client.audit.statistics.units import UNJUDGED, Units, units_of

_ORDER = ("spurious_cue", "banned_concept", "comparison", "conjunction", "error_cause")


def summarise(
    table: EvidenceTable,
    lists: ConceptLists | None = None,
    settings: FindingSettings | None = None,
) -> AuditSummary:
    """Summarise an audit: classes, findings and what was not found.

    Args:
        table: Evidence of the answered rows; degraded ones enter no statistic.
        lists: Concepts that the user allows or bans.
        settings: Limits; None: the defaults.
    """
    lists, settings = lists or ConceptLists(), settings or FindingSettings()
    units = units_of(table)
    maker = FindingMaker(table, units, lists, settings)
    findings, nothing = _tested(maker)
    if table.inside is not None:
        findings += maker.of_places(places_of(units, table.inside, settings))
    findings += maker.banned() + maker.of_errors()
    return AuditSummary(
        data=table.data,
        model=table.model,
        counts=_counts(table, units),
        failures=dict(table.failures),
        unknown_labels=dict(table.unknown_labels),
        accuracy=accuracy(units.right, settings.level),
        classes=[
            class_summary(table, index, units.take(span), settings)
            for index, span in units.classes()
        ],
        findings=sorted(findings, key=_strength),
        nothing_found=nothing,
        settings={**vars(settings), "tests_sharing_the_level": maker.shared},
        notes=_notes(table, units, settings),
    )


def _tested(maker: FindingMaker) -> tuple[list[Finding], list[NothingFound]]:
    """Test all comparisons and pairs of concepts at once."""
    settings = maker.settings
    bases = list(bases_of(maker.units, settings))
    large = [basis for basis in bases if basis.fewest() >= settings.least_images]
    pairs = pair_bases(large, settings)
    plan = settings.plan(maker.shared)
    loads = {basis.key: _loader(basis, settings.least_effect) for basis in large}
    tested = maximum_test({**loads, **{each.key: each.sample for each in pairs}}, plan)
    groups = maker.claims(large, tested, plan.level)
    findings = [maker.of_claims(group) for group in groups]
    for each in pairs:
        findings += [maker.of_pair(pair) for pair in each.found(tested, plan.level, settings.level)]
    shown = {
        (claim.basis.class_index, text)
        for group in groups
        for claim in group.claims
        for text in (claim.basis.text, *claim.also)
    }
    quiet = [basis for basis in bases if (basis.class_index, basis.text) not in shown]
    return findings, [_nothing(maker, basis, tested.get(basis.key)) for basis in quiet]


def _loader(basis: Basis, least: float) -> Callable[[], Sample]:
    return lambda: basis.sample(least)


def _nothing(maker: FindingMaker, basis: Basis, tested: Tested | None) -> NothingFound:
    reason, missed = "", None
    if tested is not None:
        concepts = basis.units.evidence.shape[1]
        missed = float(tested.bound[:concepts].max(initial=0.0))
    else:
        reason = (
            f"Each side needs {maker.settings.least_images} images in each half of the data; the "
            f"smaller has {basis.fewest()}."
        )
    return NothingFound(
        basis.class_index,
        maker.table.class_names[basis.class_index],
        basis.text,
        missed,
        basis.counts,
        reason,
    )


def _strength(finding: Finding) -> tuple[int, float, bool, float, str]:
    p = 1.0 if finding.adjusted_p is None else finding.adjusted_p
    own_words = repeats(finding.concepts[0], finding.class_name)
    kind = _ORDER.index(finding.kind)
    return kind, p, own_words, -abs(finding.effect.value), finding.finding_id


def _counts(table: EvidenceTable, units: Units) -> dict[str, int]:
    return {
        "rows": table.row_count,
        "answered": len(table.index),
        "failed": sum(table.failures.values()),
        "degraded": int(table.degraded.sum()),
        "unknown_labels": sum(table.unknown_labels.values()),
        "duplicates": table.duplicates,
        "images_in_statistics": len(units.row),
        "images_with_label": int((units.right != UNJUDGED).sum()),
    }


def _notes(table: EvidenceTable, units: Units, settings: FindingSettings) -> list[str]:
    notes = []
    if table.degraded.any():
        notes.append(
            f"{int(table.degraded.sum())} degraded answers enter no statistic; the server left "
            "parts of them out."
        )
    if not table.in_logit_units:
        notes.append("Evidence is not in units of the logit, so there are no shares.")
    if (units.right == UNJUDGED).all():
        notes.append("No row has a label that the model knows: right and wrong are not compared.")
    for column in sorted(table.slices):
        values = table.slices[column]
        number = len(set(values[values != ""].tolist()))
        if number > settings.slice_values:
            notes.append(
                f"Slice column '{column}' has {number} values, more than "
                f"{settings.slice_values}, and is not compared."
            )
    return notes
