"""Errors where one concept is present and another is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from textcam_client.audit.findings.causes.bases import Basis
from textcam_client.audit.findings.model import Estimate
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.intervals import proportion_difference
from textcam_client.audit.statistics.maximum import Key, Sample, Tested

_CANDIDATES = 8
_LEAST_SHARE = 0.05
_RARE_SHARE = 0.1
"""Difference of shares between right and wrong images that matters."""


@dataclass(frozen=True)
class Pair:
    """Images of a class in which one concept is present and another absent.

    Attributes:
        basis: Right against wrong, of the class.
        present: Place of the concept that is there.
        absent: Place of the concept that is missing.
        error_rate: Difference of the error rate to that of all other images of the class.
        count: Images of the class in which the pair holds.
        adjusted_p: See Tested.
        holds: bool, by unit of the basis.
    """

    basis: Basis
    present: int
    absent: int
    error_rate: Estimate
    count: int
    adjusted_p: float
    holds: NDArray[np.bool_]


class PairBasis:
    """Pairs of concepts of a class, as columns to test.

    Attributes:
        basis: Right against wrong.
        key: Seeds its permutations.
        pairs: (present, absent) by column.
    """

    def __init__(self, basis: Basis, settings: FindingSettings) -> None:
        self.basis = basis
        self.key: Key = (*basis.key, 1)
        self._least = settings.present
        search = basis.search
        chosen = _varying(basis.units.evidence[basis.places[search]].toarray())
        there = self._present(chosen)[search]
        self.pairs: list[tuple[int, int]] = []
        for one, other in permutations(range(len(chosen)), 2):
            share = (there[:, one] & ~there[:, other]).mean()
            if _LEAST_SHARE <= share <= 1 - _LEAST_SHARE:
                self.pairs.append((int(chosen[one]), int(chosen[other])))

    def sample(self) -> Sample:
        """Return the half that chooses, each pair as a column of 0 and 1."""
        columns = sorted({column for pair in self.pairs for column in pair})
        there = dict(
            zip(columns, self._present(np.array(columns))[self.basis.search].T, strict=True)
        )
        held = np.stack([there[one] & ~there[other] for one, other in self.pairs], 1)
        return Sample(held.astype(np.float32), self.basis.side[self.basis.search], _RARE_SHARE)

    def found(self, tested: Mapping[Key, Tested], level: float, alpha: float) -> list[Pair]:
        """Return the pairs that raise the error rate beyond what each concept alone does.

        The half that measures must confirm both parts: more errors than where both are present,
        and than where both are absent.
        """
        found, rest = [], ~self.basis.search
        for column in np.flatnonzero(tested[self.key].adjusted_p <= level).tolist():
            pair = self.pairs[column]
            there = self._present(np.array(pair))
            held = there[:, 0] & ~there[:, 1]
            others = (~held, there.all(1), ~there.any(1))
            gaps = [self._gap(held & rest, other & rest, alpha) for other in others]
            if all(gap.low is not None and gap.low > 0 for gap in gaps):
                p = float(tested[self.key].adjusted_p[column])
                found.append(Pair(self.basis, pair[0], pair[1], gaps[0], int(held.sum()), p, held))
        return found

    def _gap(self, ones: NDArray[np.bool_], others: NDArray[np.bool_], alpha: float) -> Estimate:
        wrong = ~self.basis.side
        return proportion_difference(
            (int((wrong & ones).sum()), int(ones.sum())),
            (int((wrong & others).sum()), int(others.sum())),
            alpha,
        )

    def _present(self, columns: NDArray[np.integer]) -> NDArray[np.bool_]:
        return np.asarray(self.basis.evidence(columns) >= self._least)


def pair_bases(bases: Sequence[Basis], settings: FindingSettings) -> list[PairBasis]:
    """Return the pairs to test of each class that is compared by right and wrong."""
    found = [PairBasis(basis, settings) for basis in bases if not basis.by_slice]
    return [each for each in found if each.pairs]


def _varying(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the columns that vary most, without regard to the answers."""
    order = np.argsort(-values.std(0), kind="stable")[:_CANDIDATES]
    return np.sort(order[values.std(0)[order] > 0])
