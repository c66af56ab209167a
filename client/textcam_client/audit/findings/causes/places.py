"""Concepts that lie outside the objects, where the data set has masks.

A share of a map inside a mask says little alone: it depends on how large the object is and how
coarse the maps are. So a concept is compared with the other concepts that the same answers said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import ttest_1samp

from textcam_client.audit.findings.model import Estimate
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.intervals import mean_estimates
from textcam_client.audit.statistics.pairs import holm
from textcam_client.audit.statistics.units import Units

_LEAST_SAID = 20


@dataclass(frozen=True)
class Place:
    """Concept of a class with the place of its map.

    Attributes:
        class_index: The class.
        column: Place of the concept.
        inside: Mean share of its map inside the objects' masks.
        others: Mean share of the other concepts of the same images, weighted by evidence.
        evidence: Mean evidence in logits, of the half that measures.
        count: Images that said it and another concept, and have a mask.
        adjusted_p: For "its share is at least the stated part of the others'", by Holm over all
            concepts of all classes.
    """

    class_index: int
    column: int
    inside: Estimate
    others: float
    evidence: Estimate
    count: int
    adjusted_p: float


def places_of(units: Units, inside: csr_array, settings: FindingSettings) -> list[Place]:
    """Return the concepts that matter to their class, with the places of their maps.

    Evidence of the half that chooses decides that a concept matters. Its place is measured on all
    images that said it: they were not chosen by it.
    """
    found, p_values = [], []
    for index, span in units.classes():
        own = units.take(span)
        said = _Said.of(own, inside[own.row])
        matter = _mean(own.evidence[own.search]) > settings.least_effect
        for column in np.flatnonzero(matter).tolist():
            shares, others = said.compared(column)
            if len(shares) < _LEAST_SAID:
                continue
            p_values.append(_p_value(shares - settings.inside_bound * others))
            evidence = own.evidence[~own.search][:, [column]].toarray()
            found.append(
                Place(
                    index,
                    column,
                    mean_estimates(shares[:, None], settings.level, settings.seed)[0],
                    float(others.mean()),
                    mean_estimates(evidence, settings.level, settings.seed)[0],
                    len(shares),
                    1.0,
                )
            )
    adjusted = holm(np.array(p_values)).tolist()
    return [replace(each, adjusted_p=p) for each, p in zip(found, adjusted, strict=True)]


@dataclass(frozen=True)
class _Said:
    """Concepts that the answers of a class said, (S,) each.

    Attributes:
        row: Place of the image.
        column: Place of the concept.
        share: Share of its map inside the mask.
        weight: Its evidence, 0 if that is negative.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    share: NDArray[np.float64]
    weight: NDArray[np.float64]

    @staticmethod
    def of(units: Units, inside: csr_array) -> _Said:
        row = np.repeat(np.arange(inside.shape[0]), np.diff(inside.indptr))
        column = inside.indices.astype(np.int64)
        weight = np.asarray(units.evidence[row, column]).ravel() if len(row) else np.zeros(0)
        return _Said(row, column, inside.data.astype(float), np.maximum(weight, 0).astype(float))

    def compared(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a concept's shares and those of the others, by image that said both."""
        count = int(self.row.max(initial=-1)) + 1
        mine = self.column == column
        weight = np.bincount(self.row[~mine], self.weight[~mine], count)
        total = np.bincount(self.row[~mine], (self.weight * self.share)[~mine], count)
        rows, shares = self.row[mine], self.share[mine]
        kept = weight[rows] > 0
        return shares[kept], total[rows[kept]] / weight[rows[kept]]


def _p_value(beyond: NDArray[np.float64]) -> float:
    """Test if a mean is below 0, by Student's t."""
    if beyond.std() == 0:
        return float(beyond[0] >= 0)
    return float(ttest_1samp(beyond, 0, alternative="less").pvalue)


def _mean(evidence: csr_array) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.asarray(evidence.sum(0), np.float64).ravel()
    return np.asarray(total / max(evidence.shape[0], 1))
