"""Comparisons of an audit: two sides of a class's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.maximum import Key, Sample
from textcam_client.audit.statistics.units import RIGHT, UNJUDGED, Units

_PER_COLUMN = 1000  # keys of a slice column's values


@dataclass(frozen=True)
class Basis:
    """Two sides of the images of a class.

    Attributes:
        key: Seeds its permutations; the same in every audit of the same classes and slices.
        class_index: The class.
        column: The slice column; "": the answer parts the sides.
        sides: Values of the two sides.
        names: What images of the two sides have, in words.
        units: All units of the audit.
        places: int64 (n,): the class's units that are on a side.
        side: bool (n,): True on the first side.
    """

    key: Key
    class_index: int
    column: str
    sides: tuple[str, str]
    names: tuple[str, str]
    units: Units
    places: NDArray[np.int64]
    side: NDArray[np.bool_]

    @property
    def by_slice(self) -> bool:
        """True if a slice column, not the answer, parts the sides."""
        return bool(self.column)

    @property
    def text(self) -> str:
        """The comparison in words."""
        return self.toward(1)

    def toward(self, sign: int) -> str:
        """Return the text with the side first that has more (1), or less (-1), of something."""
        one, other = self.sides[::sign]
        return (
            f"slice {self.column}: {one} against {other}"
            if self.column
            else f"{one} against {other}"
        )

    @property
    def search(self) -> NDArray[np.bool_]:
        """Bool (n,): True in the half that chooses."""
        return self.units.search[self.places]

    @property
    def counts(self) -> dict[str, int]:
        """Units of each side."""
        ones = int(self.side.sum())
        return {self.names[0]: ones, self.names[1]: len(self.side) - ones}

    def fewest(self) -> int:
        """Count the units of the smaller side in the half that has fewer."""
        sides = (self.side, ~self.side)
        halves = (self.search, ~self.search)
        return int(min((side & half).sum() for side in sides for half in halves))

    def evidence(self, columns: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the evidence of some concepts, (n, k)."""
        own = self.units.evidence[self.places]
        return np.asarray(own[:, np.asarray(columns, np.int64)].toarray())

    def sample(self, least: float) -> Sample:
        """Return the half that chooses, for the maximum test.

        Where a slice parts the sides, the class's whole logit is the last column.
        """
        chosen = self.places[self.search]
        values = self.units.evidence[chosen].toarray()
        if self.by_slice:
            logit = self.units.logit[chosen].astype(np.float32)
            values = np.column_stack([values, logit])
        return Sample(values, self.side[self.search], least)

    def measured(
        self, values: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Part values (n,), of the half that measures, into the two sides."""
        rest = ~self.search
        return values[self.side & rest], values[~self.side & rest]


def bases_of(units: Units, settings: FindingSettings) -> Iterator[Basis]:
    """Yield the comparisons of each class, by what its units know."""
    for index, span in units.classes():
        right, first = units.right[span], span.start
        judged = np.flatnonzero(right != UNJUDGED)
        if len(judged):
            side = right[judged] == RIGHT
            names = ("a right answer", "a wrong answer")
            yield Basis(
                (index, 0), index, "", ("right", "wrong"), names, units, first + judged, side
            )
        for place, column in enumerate(sorted(units.slices)):
            values = units.slices[column][span]
            known = np.flatnonzero(values != "")
            found = sorted(set(values[known].tolist()))
            if not 2 <= len(found) <= settings.slice_values:
                continue
            for number, value in enumerate(found[:1] if len(found) == 2 else found):
                sides, names = (value, "others"), (f"{column} = {value}", f"another {column}")
                if len(found) == 2:
                    sides, names = (value, found[1]), (names[0], f"{column} = {found[1]}")
                key = (index, 1 + place * _PER_COLUMN + number)
                side = values[known] == value
                yield Basis(key, index, column, sides, names, units, first + known, side)
