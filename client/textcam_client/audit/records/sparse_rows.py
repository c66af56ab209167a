"""Sparse matrices of evidence, which grow by rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


class SparseRows:
    """Sparse matrix that grows by rows."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float32]] = []
        self._places: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.int64]] = []

    def add(
        self,
        count: int,
        places: NDArray[np.int64],
        columns: NDArray[np.integer],
        values: NDArray[np.floating],
    ) -> None:
        """Append `count` rows with entries at (place, column); entries that are 0 are kept."""
        order = np.lexsort((columns, places))
        self._values.append(values[order].astype(np.float32))
        self._places.append(columns[order].astype(np.int32))
        self._counts.append(np.bincount(places, minlength=count))

    def finish(self, columns: NDArray[np.int64]) -> csr_array:
        """Return some of the columns; the parts are given up on the way, to halve the memory.

        Args:
            columns: Places of the columns, ascending; others have no entries.
        """
        counts = _joined(self._counts, np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        places = np.searchsorted(columns, _joined(self._places, np.int32)).astype(np.int32)
        values = _joined(self._values, np.float32)
        return csr_array((values, places, bounds), shape=(len(counts), len(columns)))


def _joined(parts: list[NDArray], kind: type) -> NDArray:  # type: ignore[type-arg]  # of `kind`
    joined: NDArray = np.concatenate([np.zeros(0, kind), *parts])  # type: ignore[type-arg]  # as above
    parts.clear()
    return joined
