"""Images of an audit, as its report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.findings.model import AuditSummary, Finding


@dataclass(frozen=True, slots=True)
class PagePhrase:
    """Phrase that an answer said.

    Attributes:
        text: The phrase.
        evidence: Its share of the logit.
        probability: Probability that it is true of the image, 0..1; None: no calibration.
    """

    text: str
    evidence: float
    probability: float | None


@dataclass(frozen=True, slots=True)
class PageTarget:
    """Explained logit: concepts, rest and bias add up to it.

    Attributes:
        class_index: The explained class.
        reference_index: The class that it is compared with; None: no comparison.
        logit: The explained number.
        bias: Its part that belongs to no channel: the bias, and the method's gap.
        concepts: Evidence by concept; the rest is what they and the bias leave of the logit.
    """

    class_index: int
    reference_index: int | None
    logit: float
    bias: float
    concepts: Mapping[str, float]


@dataclass(frozen=True)
class GroupMap:
    """Map of one concept, or of the whole explanation.

    Attributes:
        concept: The concept; "": the whole saliency map.
        values: float (H, W), evidence per cell; what is below 0 is not drawn.
    """

    concept: str
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PageRow:
    """One image of the report.

    Attributes:
        index: Place in the data set.
        row_id: Name that stays the same between audits.
        label: As the data set has it; None: unlabelled.
        label_index: Its class; None: unlabelled, or a label that the model does not know.
        failure: Sentence why there is no answer; "": there is one.
        degraded: True if the server left parts of the answer out.
        slices: Value by slice column.
        predictions: (class index, probability), the most probable first.
        phrases: What the answer said, in the order of the sentence.
        target: Explanation of the label's class, or of the prediction.
        error: Why the wrong class rather than the label; None: right, or no label.
        maps: Maps at hand; empty for most images.
    """

    index: int
    row_id: str
    label: str | None = None
    label_index: int | None = None
    failure: str = ""
    degraded: bool = False
    slices: Mapping[str, str] = field(default_factory=dict)
    predictions: Sequence[tuple[int, float]] = ()
    phrases: Sequence[PagePhrase] = ()
    target: PageTarget | None = None
    error: PageTarget | None = None
    maps: Sequence[GroupMap] = ()

    @property
    def right(self) -> bool | None:
        """Tell if the most probable class is the label; None: there is no telling."""
        if self.label_index is None or not self.predictions:
            return None
        return self.predictions[0][0] == self.label_index


@dataclass(frozen=True)
class OtherAudit:
    """Audit of the same data that the report compares with: another model, or an earlier version.

    Attributes:
        summary: What it says.
        rows: Its images, matched by row_id.
        findings: Differences that were tested, the strongest first.
    """

    summary: AuditSummary
    rows: Sequence[PageRow]
    findings: Sequence[Finding] = ()
