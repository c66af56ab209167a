"""Concepts: phrases that at least one channel supports most, and their evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


class Concepts:
    """The K concepts of a model.

    Args:
        channel_phrases: (D,) vocabulary index of the phrase that each channel supports most, or -1.
        vocabulary: The phrases.

    Attributes:
        indices: (K,) vocabulary indices, ascending.
        names: (K,) phrases.
    """

    def __init__(self, channel_phrases: Sequence[int], vocabulary: Sequence[str]) -> None:
        phrases = np.asarray(channel_phrases, np.int64)
        self.indices = np.unique(phrases[phrases >= 0])
        self.names = tuple(vocabulary[index] for index in self.indices)
        self._of_phrase = np.full(len(vocabulary), -1, np.int64)
        self._of_phrase[self.indices] = np.arange(len(self.indices))
        self._of_channel = np.where(phrases >= 0, self._of_phrase[phrases], -1)

    def __len__(self) -> int:
        return len(self.indices)

    def of_phrases(self, vocabulary_indices: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the concept of each phrase; -1: the phrase is none."""
        return np.asarray(self._of_phrase[vocabulary_indices])

    def evidence(
        self,
        count: int,
        rows: NDArray[np.int64],
        channels: NDArray[np.int32],
        values: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Return the evidence (N, K) of each concept in each row.

        Args:
            count: N.
            rows: (M,) row of each entry, 0 .. N-1.
            channels: (M,) its channel.
            values: (M,) the channel's evidence.
        """
        concepts = self._of_channel[channels]
        kept = concepts >= 0
        cells = rows[kept] * len(self) + concepts[kept]
        sums = np.bincount(cells, values[kept].astype(np.float64), count * len(self))
        return np.asarray(sums.reshape(count, len(self)))


class SparseRows:
    """Sparse matrix that grows by rows.

    Args:
        columns: Number of its columns, K.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._values: list[NDArray[np.float32]] = []
        self._places: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.int64]] = []

    def add_dense(self, rows: NDArray[np.float64]) -> None:
        """Append rows (N, K), without their zeros."""
        place, column = np.nonzero(rows)
        self.add(len(rows), place, column, rows[place, column])

    def add(
        self,
        count: int,
        places: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Append `count` rows with entries at (place, column); entries that are 0 are kept."""
        order = np.lexsort((columns, places))
        self._values.append(values[order].astype(np.float32))
        self._places.append(columns[order].astype(np.int32))
        self._counts.append(np.bincount(places, minlength=count))

    def finish(self) -> csr_array:
        """Return the matrix; the parts are given up on the way, which halves the memory."""
        counts = _joined(self._counts, np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        places = _joined(self._places, np.int32)
        values = _joined(self._values, np.float32)
        return csr_array((values, places, bounds), shape=(len(counts), self._columns))


def _joined(parts: list[NDArray], kind: type) -> NDArray:  # type: ignore[type-arg]  # of `kind`
    joined: NDArray = np.concatenate([np.zeros(0, kind), *parts])  # type: ignore[type-arg]  # as above
    parts.clear()
    return joined
