"""Findings of an audit, and what stands beside them in its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from textcam_client.audit.statistics.estimates import Estimate

__all__ = [
    "AuditSummary",
    "ClassSummary",
    "ConceptSummary",
    "Estimate",
    "Finding",
    "FindingKind",
    "NothingFound",
]

FindingKind = Literal["spurious_cue", "conjunction", "error_cause", "banned_concept", "comparison"]


@dataclass(frozen=True)
class Finding:
    """Claim about a model that a person can check.

    Attributes:
        finding_id: Stays the same between audits of the same data: kind, class and concepts.
        kind: See FindingKind.
        class_index: The class; None: the whole model.
        class_name: Its name; "": the whole model.
        concepts: Phrases, the strongest first; what one slice shows in a class is one finding.
            Phrases that go together count as one concept and stand in `alike`.
        alike: Phrases whose evidence goes with the first concept's.
        basis: What was compared: "right against wrong", "slice light: day against night" ...
        statement: The finding as one sentence.
        effect: Difference of the first concept's evidence in logits, or of the class's whole logit,
            from the half of the images that did not choose the finding; the side named first in
            `basis` has more.
        adjusted_p: p value of the effect, adjusted by the maximum statistic for all concepts,
            classes and comparisons.
        counts: Images of each side, by the side's name.
        error_rate: What the family of tests guarantees, as a sentence.
        images: Rows that show it, by index, the clearest first.
        inside: Share of the concept's map inside the objects' masks; None: no masks.
        of_logit: True if effect and p are of the whole logit, as they are for slices.
        is_named: False: no concept differs for sure, and `concepts` has the one that differs most.
    """

    finding_id: str
    kind: FindingKind
    class_index: int | None
    class_name: str
    concepts: Sequence[str]
    basis: str
    statement: str
    effect: Estimate
    adjusted_p: float | None
    counts: Mapping[str, int]
    error_rate: str
    images: Sequence[int]
    alike: Sequence[str] = ()
    inside: Estimate | None = None
    of_logit: bool = False
    is_named: bool = True


@dataclass(frozen=True)
class NothingFound:
    """Comparison that found nothing, and how much it would have seen.

    Attributes:
        class_index: The class.
        class_name: Its name.
        basis: What was compared.
        largest_missed: Largest effect in logits that the data do not exclude; None: too few images.
        counts: Images of each side.
        reason: Why nothing could be tested, as a sentence; "": it was tested.
    """

    class_index: int
    class_name: str
    basis: str
    largest_missed: float | None
    counts: Mapping[str, int]
    reason: str = ""


@dataclass(frozen=True)
class ConceptSummary:
    """A concept of one class.

    Attributes:
        text: The phrase.
        kind: Its kind; "": unknown.
        evidence: Mean evidence in logits, over the class's images.
        pooled_share: Sum of evidence over sum of (logit - bias); None: the denominator's own
            interval touches 0.
        prevalence: Share of images with evidence above the stated floor.
        spread: Standard deviation of the evidence over images, logits.
        images: Rows at quantiles of the evidence, from the highest to the lowest.
    """

    text: str
    kind: str
    evidence: Estimate
    pooled_share: Estimate | None
    prevalence: Estimate
    spread: float
    images: Sequence[int]


@dataclass(frozen=True)
class ClassSummary:
    """A class and what carries it.

    Attributes:
        class_index: The class.
        class_name: Its name.
        count: Images of the class that enter the statistics.
        accuracy: Share of them that were predicted right, by Wilson; None: no labels.
        concepts: The strongest first.
        slices: Accuracy by "column: value".
    """

    class_index: int
    class_name: str
    count: int
    accuracy: Estimate | None
    concepts: Sequence[ConceptSummary]
    slices: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditSummary:
    """Everything that an audit says.

    Attributes:
        data: Name of the data set.
        model: Name and version of the model.
        counts: "rows", "answered", "failed", "degraded", "unknown_labels", "duplicates" ...
        failures: Number of rows by reason.
        unknown_labels: Labels that the model does not know, with their number of rows.
        accuracy: Over all labelled images; None: no labels.
        classes: In order of index.
        findings: The strongest first.
        nothing_found: Comparisons without a finding.
        settings: What the statistics used: seed, permutations, level, least effect ...
        notes: Sentences that a reader must know: degraded answers, small classes ...
    """

    data: str
    model: str
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    accuracy: Estimate | None
    classes: Sequence[ClassSummary]
    findings: Sequence[Finding]
    nothing_found: Sequence[NothingFound]
    settings: Mapping[str, str | int | float]
    notes: Sequence[str]
