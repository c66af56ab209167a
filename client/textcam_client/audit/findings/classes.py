"""Summary of each class: concepts, accuracy and slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.findings.model import ClassSummary, ConceptSummary, Estimate
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.records.evidence import EvidenceTable
from textcam_client.audit.statistics.intervals import (
    mean_estimates,
    proportion_estimate,
    proportion_estimates,
    ratio_estimates,
)
from textcam_client.audit.statistics.units import RIGHT, UNJUDGED, Units


def class_summary(
    table: EvidenceTable, class_index: int, units: Units, settings: FindingSettings
) -> ClassSummary:
    """Summarise a class from its units."""
    mean = np.asarray(units.evidence.sum(0)).ravel() / len(units.row)
    order = np.argsort(-mean, kind="stable")[: settings.concepts_per_class]
    order = order[mean[order] > 0]
    values = units.evidence[:, order].toarray().astype(np.float64)
    means = mean_estimates(values, settings.level, settings.seed)
    shares: list[Estimate | None] = [None] * len(order)
    if table.in_logit_units:
        shares = ratio_estimates(values, units.above_bias, settings.level, settings.seed)
    present = proportion_estimates((values >= settings.present).sum(0), len(values), settings.level)
    concepts = [
        ConceptSummary(
            table.names[column],
            table.kinds[column],
            means[place],
            shares[place],
            present[place],
            float(values[:, place].std(ddof=1)) if len(values) > 1 else 0.0,
            _examples(table, units, values[:, place], settings.example_count),
        )
        for place, column in enumerate(order.tolist())
    ]
    return ClassSummary(
        class_index,
        table.class_names[class_index],
        len(units.row),
        accuracy(units.right, settings.level),
        concepts,
        _by_slice(units, settings),
    )


def accuracy(right: NDArray[np.int8], level: float) -> Estimate | None:
    """Estimate the accuracy of units; None: no labels."""
    judged = right[right != UNJUDGED]
    if not len(judged):
        return None
    return proportion_estimate(int((judged == RIGHT).sum()), len(judged), level)


def _by_slice(units: Units, settings: FindingSettings) -> dict[str, Estimate]:
    found = {}
    for column in sorted(units.slices):
        values = units.slices[column]
        known = sorted(set(values[values != ""].tolist()))
        for value in known if len(known) <= settings.slice_values else ():
            estimate = accuracy(units.right[values == value], settings.level)
            if estimate is not None:
                found[f"{column}: {value}"] = estimate
    return found


def _examples(
    table: EvidenceTable, units: Units, values: NDArray[np.floating], count: int
) -> list[int]:
    """Return rows at even quantiles of the values, from the highest to the lowest."""
    order = np.argsort(-values, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    return [int(index) for index in table.index[units.row[order[places]]]]
