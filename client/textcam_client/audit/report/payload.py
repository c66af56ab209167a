"""Data of the page's interactive views: tables of names as JSON, and columns of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from textcam_client.audit.findings.model import ClassSummary, ConceptSummary, Estimate
from textcam_client.audit.report.columns import Columns
from textcam_client.audit.report.page_data import OtherAudit, PageRow, PageTarget

UNLABELLED, RIGHT, WRONG, FAILED, UNKNOWN = range(5)
"""States of a row, as the page's script knows them."""

_NAN = float("nan")


class Names:
    """Texts with their numbers, in order of their first use.

    Example:
        >>> names = Names()
        >>> names.number("b"), names.number("a"), names.number("b"), names.texts
        (0, 1, 0, ['b', 'a'])
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the text's number."""
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> list[str]:
        """Return all texts, in order of number."""
        return list(self._numbers)


def state(row: PageRow) -> int:
    """Return the state of a row."""
    if row.failure:
        return FAILED
    if row.label is None:
        return UNLABELLED
    if row.right is None:
        return UNKNOWN
    return RIGHT if row.right else WRONG


def strongest(concepts: Mapping[str, float], count: int, wanted: Iterable[str]) -> dict[str, float]:
    """Return the concepts with the largest evidence of either sign, and the wanted ones."""
    kept = sorted(concepts, key=lambda text: (-abs(concepts[text]), text))[:count]
    kept += [text for text in sorted(set(wanted) & set(concepts)) if text not in kept]
    return {text: concepts[text] for text in kept if concepts[text]}


class Payload:
    """Tables and columns of the rows, filled once.

    Attributes:
        columns: Numbers of the rows.
        concepts: Phrases with their numbers.
    """

    def __init__(
        self, rows: Sequence[PageRow], wanted: Iterable[str], concepts_per_image: int
    ) -> None:
        self.columns = Columns()
        self.concepts = Names()
        self._rows = rows
        self._wanted = frozenset(wanted)
        self._limit = concepts_per_image
        self._labels = Names()
        self._tables = {
            "names": [row.row_id for row in rows],
            "failures": {place: row.failure for place, row in enumerate(rows) if row.failure},
            "slices": self._add_slices(),
        }
        self._add_facts()
        self._add_predictions()
        self._add_target("target", [row.target for row in rows])
        self._add_target("error", [row.error for row in rows])
        self._add_phrases()
        self._add_maps()

    def tables(self) -> dict[str, Any]:
        """Return the tables of names, with the directory of the columns."""
        return self._tables | {
            "labels": self._labels.texts,
            "concepts": self.concepts.texts,
            "columns": self.columns.directory,
        }

    def add_other(self, other: OtherAudit) -> None:
        """Add what another audit says of the same images."""
        found = {row.row_id: row for row in other.rows}
        matched = [found.get(row.row_id) for row in self._rows]
        answered = [row if row is not None and row.predictions else None for row in matched]
        self.columns.add("other", [row.predictions[0][0] if row else -1 for row in answered], "i4")
        self.columns.add_fractions(
            "other_probability", [row.predictions[0][1] if row else _NAN for row in answered]
        )

    def _add_slices(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for column in sorted({column for row in self._rows for column in row.slices}):
            values = Names()
            for text in sorted({row.slices[column] for row in self._rows if column in row.slices}):
                values.number(text)
            places = [
                values.number(row.slices[column]) if column in row.slices else -1
                for row in self._rows
            ]
            self.columns.add(f"slice{len(made)}", places, "i4")
            made.append({"name": column, "values": values.texts})
        return made

    def _add_facts(self) -> None:
        for label in sorted({row.label for row in self._rows if row.label is not None}):
            self._labels.number(label)
        rows = self._rows
        self.columns.add("index", [row.index for row in rows], "i4")
        labels = [-1 if row.label is None else self._labels.number(row.label) for row in rows]
        self.columns.add("label", labels, "i4")
        indices = [-1 if row.label_index is None else row.label_index for row in rows]
        self.columns.add("label_class", indices, "i4")
        self.columns.add("state", map(state, rows), "u1")
        self.columns.add("degraded", [row.degraded for row in rows], "u1")

    def _add_predictions(self) -> None:
        lists = [row.predictions for row in self._rows]
        self.columns.add_starts("predictions", lists)
        self.columns.add("predicted_class", [index for own in lists for index, _ in own], "i4")
        self.columns.add_fractions("predicted_probability", [p for own in lists for _, p in own])

    def _add_target(self, name: str, targets: Sequence[PageTarget | None]) -> None:
        add = self.columns.add
        add(f"{name}_class", [-1 if own is None else own.class_index for own in targets], "i4")
        add(f"{name}_reference", [_reference(own) for own in targets], "i4")
        add(f"{name}_logit", [_NAN if own is None else own.logit for own in targets], "f4")
        add(f"{name}_bias", [_NAN if own is None else own.bias for own in targets], "f4")
        kept = [
            strongest(own.concepts if own else {}, self._limit, self._wanted) for own in targets
        ]
        self.columns.add_starts(f"{name}_concepts", [list(own) for own in kept])
        add(f"{name}_concept", [self.concepts.number(text) for own in kept for text in own], "i4")
        self.columns.add_fractions(
            f"{name}_evidence", [value for own in kept for value in own.values()]
        )

    def _add_phrases(self) -> None:
        lists = [row.phrases for row in self._rows]
        flat = [phrase for own in lists for phrase in own]
        self.columns.add_starts("phrases", lists)
        self.columns.add("phrase", [self.concepts.number(own.text) for own in flat], "i4")
        self.columns.add_fractions("phrase_evidence", [own.evidence for own in flat])
        self.columns.add_fractions("phrase_probability", [_or_nan(own.probability) for own in flat])

    def _add_maps(self) -> None:
        lists = [row.maps for row in self._rows]
        flat = [own for maps in lists for own in maps]
        drawn = [np.maximum(np.nan_to_num(own.values, posinf=0.0), 0) for own in flat]
        peaks = [float(values.max(initial=0)) for values in drawn]
        steps = [
            np.round(values / (peak or 1.0) * 255).ravel()
            for values, peak in zip(drawn, peaks, strict=True)
        ]
        self.columns.add_starts("maps", lists)
        numbers = [self.concepts.number(own.concept) if own.concept else -1 for own in flat]
        self.columns.add("map_concept", numbers, "i4")
        self.columns.add("map_height", [values.shape[0] for values in drawn], "i4")
        self.columns.add("map_width", [values.shape[1] for values in drawn], "i4")
        self.columns.add("map_peak", peaks, "f4")
        self.columns.add_starts("map_cells", steps)
        self.columns.add("map_cell", np.concatenate([*steps, np.zeros(0)]), "u1")


def class_tables(
    classes: Sequence[ClassSummary], concepts: Names, places: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Return the class pages' tables; places are those of the rows on the page, by index."""
    return [
        {
            "index": own.class_index,
            "name": own.class_name,
            "count": own.count,
            "accuracy": numbers(own.accuracy),
            "slices": [[key, numbers(value)] for key, value in own.slices.items()],
            "concepts": [_concept(concept, concepts, places) for concept in own.concepts],
        }
        for own in classes
    ]


def _concept(concept: ConceptSummary, concepts: Names, places: Mapping[int, int]) -> dict[str, Any]:
    return {
        "concept": concepts.number(concept.text),
        "kind": concept.kind,
        "evidence": numbers(concept.evidence),
        "share": numbers(concept.pooled_share),
        "prevalence": numbers(concept.prevalence),
        "spread": finite(concept.spread),
        "images": [places[index] for index in concept.images if index in places],
    }


def numbers(estimate: Estimate | None) -> list[float | str | None] | None:
    """Return value, ends and note of an estimate, None where there is no number."""
    if estimate is None:
        return None
    return [finite(estimate.value), finite(estimate.low), finite(estimate.high), estimate.note]


def finite(value: float | None) -> float | None:
    """Return a finite number, else None."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _reference(target: PageTarget | None) -> int:
    return -1 if target is None or target.reference_index is None else target.reference_index


def _or_nan(value: float | None) -> float:
    return _NAN if value is None else value
