"""Evidence of all answered rows as arrays, which is what statistics need of the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Contrasts:
    """Why the model chose the wrong class, for M of the rows.

    Each explains logit(predicted) - logit(label); letters as in EvidenceTable.

    Attributes:
        rows: int64 (M,), ascending: places in the EvidenceTable.
        target_index: int32 (M,): the predicted, wrong class.
        reference_index: int32 (M,): the label's class.
        logit: float32 (M,): the difference of logits.
        bias: float32 (M,).
        gap: float32 (M,).
        rest: float32 (M,).
        evidence: csr_array float32 (M, K).
    """

    rows: NDArray[np.int64]
    target_index: NDArray[np.int32]
    reference_index: NDArray[np.int32]
    logit: NDArray[np.float32]
    bias: NDArray[np.float32]
    gap: NDArray[np.float32]
    rest: NDArray[np.float32]
    evidence: csr_array


@dataclass(frozen=True)
class EvidenceTable:
    """Evidence per concept of the N answered rows, in order of index.

    A concept is a phrase that answers said; its evidence is its share of the logit, 0 where it was
    not said. Concepts, rest, bias and gap add up to the logit.

    Attributes:
        index: int64 (N,): places in the data set; rows without an answer are missing.
        row_key: int64 (N,): hash of the row's id; the same in every audit of the same data.
        content_group: int64 (N,): hash of the image file; the same for equal files, in every audit.
        label_index: int32 (N,): class of the label; -1: unlabelled, or unknown to the model.
        predicted_index: int32 (N,): the most probable class.
        target_index: int32 (N,): the explained class: the label's, else the predicted one.
        logit: float32 (N,): the explained logit.
        bias: float32 (N,).
        gap: float32 (N,): what the method leaves out of the logit.
        rest: float32 (N,): evidence of channels that support no phrase that was said.
        in_logit_units: True if evidence is in units of the logit.
        concepts: (K,): vocabulary index of each concept, ascending.
        names: (K,): their phrases.
        kinds: (K,): their kinds; "": unknown.
        evidence: csr_array float32 (N, K).
        inside: csr_array float32 (N, K): share of the phrase's map inside the object's mask, stored
            (0 included) for each phrase that was said of an image with a mask; None: no masks.
        degraded: bool (N,): the server left parts out; keep such rows out of statistics.
        slices: By slice column: object (N,) of str; "": no value.
        contrasts: Explanations of the wrong predictions.
        class_names: Of the model, in order of index.
        data: Name of the data set.
        model: Name and version of the model.
        row_count: Rows of the data set, with those that have no answer.
        failures: Number of rows without an answer, by reason.
        unknown_labels: Labels that the model does not know, with their number of rows.
        duplicates: Rows whose image file is that of an earlier row.
    """

    index: NDArray[np.int64]
    row_key: NDArray[np.int64]
    content_group: NDArray[np.int64]
    label_index: NDArray[np.int32]
    predicted_index: NDArray[np.int32]
    target_index: NDArray[np.int32]
    logit: NDArray[np.float32]
    bias: NDArray[np.float32]
    gap: NDArray[np.float32]
    rest: NDArray[np.float32]
    in_logit_units: bool
    concepts: tuple[int, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    evidence: csr_array
    inside: csr_array | None
    degraded: NDArray[np.bool_]
    slices: Mapping[str, NDArray[Any]]
    contrasts: Contrasts
    class_names: tuple[str, ...] = field(repr=False)
    data: str = ""
    model: str = ""
    row_count: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Mark the rows, bool (N,), whose prediction is the label; False without a known label."""
        return np.asarray((self.label_index == self.predicted_index) & (self.label_index >= 0))
