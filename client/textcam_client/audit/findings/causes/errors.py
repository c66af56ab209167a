"""Wrong answers, grouped by the concept that spoke most for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.records.evidence import EvidenceTable


@dataclass(frozen=True)
class ErrorGroup:
    """Images of other classes that were taken for a class by the same concept.

    Attributes:
        class_index: The class that they were taken for.
        column: Place of the concept with most evidence for it, against the label's class.
        rows: Places in the table, the strongest first.
        evidence: (n,) of the concept, in logits, in the order of rows.
        total: All images of other classes that were taken for the class.
    """

    class_index: int
    column: int
    rows: NDArray[np.int64]
    evidence: NDArray[np.float64]
    total: int


def error_groups(table: EvidenceTable, least: int) -> list[ErrorGroup]:
    """Group errors by predicted class and strongest concept, at least `least` images each."""
    contrasts = table.contrasts
    kept = np.flatnonzero(~table.degraded[contrasts.rows])
    if not len(kept):
        return []
    evidence = contrasts.evidence[kept].tocsr()
    column, strongest = _largest(evidence)
    target = contrasts.target_index[kept].astype(np.int64)
    found = []
    for key in np.unique(np.stack([target, column], 1)[strongest > 0], axis=0):
        members = np.flatnonzero((target == key[0]) & (column == key[1]) & (strongest > 0))
        if len(members) < least:
            continue
        members = members[np.argsort(-strongest[members], kind="stable")]
        rows = contrasts.rows[kept[members]]
        total = int((target == key[0]).sum())
        group = ErrorGroup(int(key[0]), int(key[1]), rows, strongest[members], total)
        found.append(group)
    return sorted(found, key=lambda group: (-len(group.rows), group.class_index, group.column))


def borrowed(table: EvidenceTable, class_index: int, column: int, least: float) -> tuple[int, int]:
    """Count the images of other classes taken for a class, and those that carry a concept of it.

    Evidence for the predicted class is that of the contrast and that for the label together.
    """
    contrasts = table.contrasts
    own = np.flatnonzero((contrasts.target_index == class_index) & ~table.degraded[contrasts.rows])
    if not len(own):
        return 0, 0
    against = contrasts.evidence[own][:, [column]].toarray()[:, 0]
    label = table.evidence[contrasts.rows[own]][:, [column]].toarray()[:, 0]
    return len(own), int((against + label >= least).sum())


def _largest(evidence: object) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the column and size of the largest value of each row; 0 if none is positive."""
    found = evidence.tocoo()  # type: ignore[attr-defined]  # scipy has no types
    order = np.lexsort((found.col, -found.data, found.row))
    rows, first = np.unique(found.row[order], return_index=True)
    column = np.zeros(found.shape[0], np.int64)
    strongest = np.zeros(found.shape[0])
    column[rows] = found.col[order][first]
    strongest[rows] = found.data[order][first]
    return column, strongest
