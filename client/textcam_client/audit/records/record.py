"""Record of one row: the answer to its image, or the reason that there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PhraseRecord:
    """Phrase that an answer said.

    Attributes:
        text: The phrase.
        vocabulary_index: Its index in the model's vocabulary.
        kind: Its kind; "": unknown.
        probability: Probability that it is true of the image, 0..1; None: no calibration.
        evidence: Its share of the logit.
        effect: Evidence of all channels that support it.
        inside: Share of its map's positive part inside the object's mask, 0..1; None: no mask, or
            the map has no positive part.
    """

    text: str
    vocabulary_index: int
    kind: str
    probability: float | None
    evidence: float
    effect: float
    inside: float | None = None


@dataclass(frozen=True)
class TargetRecord:
    """Explanation of one class, or of one class against another.

    Attributes:
        class_index: The explained class.
        reference_index: The class that it is compared with; None: no comparison.
        logit: The explained number.
        bias: Its part that belongs to no channel.
        gap: Its part that the method leaves out.
        in_logit_units: True if evidence is in units of the logit.
        phrases: What was said, in the order of the sentence.
        rest_evidence: Evidence of the channels that support no phrase that was said.
        channel_ids: int32 (K,), ascending: channels whose evidence is above the floor.
        channel_evidence: float32 (K,).
    """

    class_index: int
    reference_index: int | None
    logit: float
    bias: float
    gap: float
    in_logit_units: bool
    phrases: Sequence[PhraseRecord]
    rest_evidence: float
    channel_ids: NDArray[np.int32]
    channel_evidence: NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """Everything that an audit keeps of one row.

    Attributes:
        index: Place in the data set.
        row_id: See Row.
        path: See Row.
        content_digest: "sha256:..." of the image file; "": it could not be read.
        label: As the data set has it; None: unlabelled.
        label_index: Class of the label; None: unlabelled, or a label that the model does not know.
        slices: Value by slice column.
        failure: Sentence why there is no answer; "": there is one. What follows is then empty.
        failure_reason: Short reason for counting: "IMAGE_UNREADABLE", an ErrorInfo reason ...
        predictions: (class index, probability, logit), the most probable first.
        target: Explanation of the label's class, or of the most probable class of an image whose
            label is unknown.
        error: Why the wrong class rather than the label; None: the prediction is right, or there
            is no label.
        degradations: Parts that the server left out, or "no_contrast": there is no `error`. Such a
            record enters no statistic unmarked.
        mask_failure: Sentence why the mask could not be used; "": no fault.
        digests: By stage: "pixels", "activations", "evidence".
        provenance: Place in the audit's list of provenances.
        thumbnail: JPEG bytes, at most 96 x 96 pixels; b"": none.
    """

    index: int
    row_id: str
    path: str
    content_digest: str
    label: str | None
    label_index: int | None
    slices: Mapping[str, str]
    failure: str = ""
    failure_reason: str = ""
    predictions: Sequence[tuple[int, float, float]] = ()
    target: TargetRecord | None = None
    error: TargetRecord | None = None
    degradations: Sequence[str] = ()
    mask_failure: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    provenance: int = 0
    thumbnail: bytes = field(default=b"", repr=False)
