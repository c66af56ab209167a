"""Units of an audit's statistics: images, where rows of equal content count once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from textcam_client.audit.records.evidence import EvidenceTable

RIGHT, WRONG, UNJUDGED = 1, 0, -1
"""Values of Units.right."""


@dataclass(frozen=True)
class Units:
    """Images, ordered by the explained class, each with the mean of its rows.

    Rows of one explained class and equal content are one unit: they are no independent witnesses.

    Attributes:
        row: int64 (U,): place of the unit's first row in the table.
        size: int64 (U,): rows of the unit.
        class_index: int32 (U,), ascending.
        search: bool (U,): True in the half that chooses findings; the other half measures them.
        evidence: csr_array float32 (U, K).
        logit: float64 (U,).
        above_bias: float64 (U,): logit less bias.
        right: int8 (U,): RIGHT, WRONG, or UNJUDGED without a known label or where rows differ.
        slices: By column: object (U,) of str; "": no value, or rows differ.
    """

    row: NDArray[np.int64]
    size: NDArray[np.int64]
    class_index: NDArray[np.int32]
    search: NDArray[np.bool_]
    evidence: csr_array
    logit: NDArray[np.float64]
    above_bias: NDArray[np.float64]
    right: NDArray[np.int8]
    slices: Mapping[str, NDArray[Any]]

    def classes(self) -> Iterator[tuple[int, slice]]:
        """Yield each class with the places of its units."""
        found, starts = np.unique(self.class_index, return_index=True)
        ends = np.append(starts, len(self.class_index))[1:].tolist()
        for index, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
            yield index, slice(start, end)

    def take(self, chosen: slice | NDArray[Any]) -> Units:
        """Return some of the units."""
        return Units(
            self.row[chosen],
            self.size[chosen],
            self.class_index[chosen],
            self.search[chosen],
            self.evidence[chosen],
            self.logit[chosen],
            self.above_bias[chosen],
            self.right[chosen],
            {column: values[chosen] for column, values in self.slices.items()},
        )


def units_of(table: EvidenceTable) -> Units:
    """Return the units of all rows that are not degraded."""
    rows = np.flatnonzero(~table.degraded)
    content, target = table.content_group[rows], table.target_index[rows]
    rows = rows[np.lexsort((rows, content, target))]
    content, target = table.content_group[rows], table.target_index[rows]
    new = np.ones(len(rows), bool)
    new[1:] = (content[1:] != content[:-1]) | (target[1:] != target[:-1])
    starts = np.flatnonzero(new)
    size = np.diff(np.append(starts, len(rows)))
    first = rows[starts]
    mean = _Means(rows, starts, size)
    right = np.where(table.label_index >= 0, table.correct, UNJUDGED).astype(np.int8)
    return Units(
        first,
        size,
        table.target_index[first],
        in_search_half(table.row_key[first]),
        mean.of_rows(table.evidence),
        mean.of(table.logit),
        mean.of(table.logit - table.bias),
        mean.agreed(right, UNJUDGED),
        {column: mean.agreed(values, "") for column, values in table.slices.items()},
    )


def in_search_half(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Split keys (N,) into two halves by their hash, the same in every audit.

    The hash is splitmix64's finisher, so that consecutive keys part as well as hashes do.
    """
    mixed = keys.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) & np.uint64(1), bool)


@dataclass(frozen=True)
class _Means:
    """Means over units: the sorted rows, where each unit starts, and its size."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    size: NDArray[np.int64]

    def of(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Average values (N,) to (U,)."""
        if not len(self.starts):
            return np.zeros(0)
        return np.add.reduceat(values[self.rows].astype(float), self.starts) / self.size

    def of_rows(self, values: csr_array) -> csr_array:
        """Average rows (N, K) to (U, K)."""
        if len(self.starts) == len(self.rows):
            return values[self.rows]
        unit = np.repeat(np.arange(len(self.starts)), self.size)
        weights = np.repeat(1 / self.size, self.size).astype(np.float32)
        shape = (len(self.starts), values.shape[0])
        return csr_array((weights, (unit, self.rows)), shape=shape) @ values

    def agreed(self, values: NDArray[Any], otherwise: object) -> NDArray[Any]:
        """Return the value (U,) that all rows of a unit share, or `otherwise`."""
        unit = np.repeat(np.arange(len(self.starts)), self.size)
        first = values[self.rows[self.starts]]
        found = np.array(first)
        found[unit[values[self.rows] != first[unit]]] = otherwise
        return found
