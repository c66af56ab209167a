"""Two audits of the same data: accuracy flips, by McNemar's test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


@dataclass(frozen=True)
class Flips:
    """Answers that changed between right and wrong.

    Attributes:
        lost: Right in the first audit, wrong in the second.
        won: Wrong in the first, right in the second.
        total: Pairs.
        p: McNemar's exact p; 1 where nothing changed.
    """

    lost: int
    won: int
    total: int
    p: float


def flips(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Flips:
    """Compare right (True) and wrong answers to the same images."""
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    table = [[both, lost], [won, neither]]
    p = float(mcnemar(table, exact=True).pvalue) if lost + won else 1.0
    return Flips(lost, won, len(before), p)


def holm(p_values: NDArray[Any]) -> NDArray[np.float64]:
    """Adjust p values for their number by Holm's method."""
    if not len(p_values):
        return np.zeros(0)
    return np.asarray(multipletests(p_values, method="holm")[1])
