"""Tests of many concepts in many comparisons at once, by the maximum of their statistics.

Westfall and Young's step-down method: side labels are permuted within each comparison, and each
permutation's largest statistic over all comparisons and concepts is the yardstick of all. So the
chance of one or more false findings in a whole audit is at most the level, at any dependence
between concepts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Key: TypeAlias = tuple[int, ...]
_CELLS = 1 << 20  # of one batch of permutations
_THREADS = 4  # at most; each holds a batch
_LEAST_VARIANCE = 1e-4  # of a side's mean, as a share of the pooled one


@dataclass(frozen=True)
class Sample:
    """Units of a comparison.

    Attributes:
        values: float32 (n, K): evidence in logits.
        side: bool (n,); None: the values are differences of pairs, compared with 0.
        least: Effect that matters; a test's null is that the effect is no larger.
    """

    values: NDArray[np.float32]
    side: NDArray[np.bool_] | None
    least: float


@dataclass(frozen=True)
class Tested:
    """Results of a comparison, (K,) each.

    Attributes:
        difference: Mean of the True side less that of the False side.
        statistic: Size of the difference beyond the least effect, in standard errors, on the
            normal scale; 0: below it.
        adjusted_p: For all concepts of all comparisons; 1 where the data cannot reach the least
            effect.
        bound: Largest size of the effect that is not excluded, at the same level for all.
    """

    difference: NDArray[np.float64]
    statistic: NDArray[np.float64]
    adjusted_p: NDArray[np.float64]
    bound: NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Settings of the tests.

    Attributes:
        permutations: Number of permutations B; the smallest p is 1 / (B + 1).
        seed: Seed of all permutations.
        level: Chance of one or more false findings.
    """

    permutations: int = 2000
    seed: int = 0
    level: float = 0.05


def maximum_test(comparisons: Mapping[Key, Callable[[], Sample]], plan: Plan) -> dict[Key, Tested]:
    """Test all concepts of all comparisons.

    Args:
        comparisons: By key, which seeds its permutations: loads the units, the same at each call.
        plan: Settings.
    """
    if not comparisons:
        return {}
    observed = {key: _observe(load()) for key, load in comparisons.items()}
    open_ = {key: each.testable.copy() for key, each in observed.items()}
    maxima = _all_maxima(comparisons, open_, plan)
    adjusted = {key: np.ones(len(each.testable)) for key, each in observed.items()}
    reached, critical = 0.0, None
    while True:
        null = np.sort(np.max(list(maxima.values()), axis=0))
        critical = _quantile(null, plan.level) if critical is None else critical
        changed = []
        for key, each in observed.items():
            p = np.maximum(_p_values(each.statistic, null), reached)
            rejected = open_[key] & (p <= plan.level)
            adjusted[key][open_[key]] = p[open_[key]]
            if rejected.any():
                open_[key] &= ~rejected
                changed.append(key)
        if not changed:
            break
        reached = max(
            float(adjusted[key][observed[key].testable & ~open_[key]].max()) for key in changed
        )
        maxima |= _all_maxima({key: comparisons[key] for key in changed}, open_, plan)
    return {key: each.tested(adjusted[key], critical) for key, each in observed.items()}


@dataclass(frozen=True)
class _Observed:
    """A comparison's own statistics.

    Attributes:
        difference: (K,).
        error: (K,): standard error of the difference.
        statistic: (K,), beyond the least effect, on the normal scale.
        testable: (K,): concepts whose values, however they are dealt, can reach the least effect.
        freedom: Degrees of freedom: those of the smaller side.
    """

    difference: NDArray[np.float64]
    error: NDArray[np.float64]
    statistic: NDArray[np.float64]
    testable: NDArray[np.bool_]
    freedom: int

    def tested(self, adjusted: NDArray[np.float64], critical: float) -> Tested:
        """Return the results, with the effects that are not excluded at a critical value."""
        bound = np.abs(self.difference) + _as_t(critical, self.freedom) * self.error
        return Tested(self.difference, self.statistic, adjusted, bound)


def _observe(sample: Sample) -> _Observed:
    values = sample.values.astype(np.float64)
    difference, error = _effects(values, _signs(sample)[None].astype(np.float64), sample)
    beyond = np.maximum(np.abs(difference[0]) - sample.least, 0)
    t = np.divide(beyond, error[0], out=np.zeros_like(beyond), where=error[0] > 0)
    freedom = _freedom(sample)
    return _Observed(difference[0], error[0], _as_normal(t, freedom), _testable(sample), freedom)


def _testable(sample: Sample) -> NDArray[np.bool_]:
    """Mark concepts (K,) that can reach the least effect; it does not depend on the sides."""
    n = len(sample.values)
    if sample.side is None:
        root_mean_square = np.sqrt((sample.values.astype(np.float64) ** 2).mean(0))
        return np.asarray(root_mean_square > sample.least)
    share = float(sample.side.mean())
    reach = sample.values.std(0, dtype=np.float64) / np.sqrt(share * (1 - share) + 1e-12 / n)
    return np.asarray((reach > sample.least) & (np.ptp(sample.values, axis=0) > sample.least))


def _all_maxima(
    comparisons: Mapping[Key, Callable[[], Sample]],
    columns: Mapping[Key, NDArray[np.bool_]],
    plan: Plan,
) -> dict[Key, NDArray[np.float64]]:
    """Return _maxima() of comparisons by key, on a few threads."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as threads:
        found = threads.map(
            lambda key: _maxima(comparisons[key](), columns[key], key, plan), comparisons
        )
        return dict(zip(comparisons, found, strict=True))


def _maxima(
    sample: Sample, columns: NDArray[np.bool_], key: Key, plan: Plan
) -> NDArray[np.float64]:
    """Return each permutation's largest statistic (B,) over some of the columns."""
    found = np.zeros(plan.permutations)
    if not columns.any():
        return found
    values = np.ascontiguousarray(sample.values[:, columns], np.float32)
    if sample.side is not None:
        values = values - values.mean(0, dtype=np.float64).astype(np.float32)
    rng = np.random.default_rng([plan.seed, *(abs(part) for part in key)])
    own = _signs(sample)
    batch = max(1, _CELLS // max(len(own), values.shape[1]))
    for start in range(0, plan.permutations, batch):
        count = min(batch, plan.permutations - start)
        if sample.side is None:
            signs = (rng.integers(0, 2, (count, len(own)), np.int8) * 2 - 1).astype(np.float32)
        else:
            signs = _dealt(own, count, rng)
        difference, error = _effects(values, signs, sample)
        t = np.divide(np.abs(difference), error, out=np.zeros_like(error), where=error > 0)
        found[start : start + count] = t.max(1)
    return _as_normal(found, _freedom(sample))


def _dealt(own: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Deal the sides (n,) of a comparison anew `count` times: (count, n), as many ones in each.

    The units with the smallest of n random keys get the ones: half the time of a shuffle.
    """
    ones = int(own.sum())
    keys = rng.integers(0, 1 << 32, (count, len(own)), np.uint32)
    last = np.partition(keys, ones - 1, axis=1)[:, ones - 1, None]
    dealt = (keys <= last).astype(np.float32)
    tied = dealt.sum(1) != ones  # one row in a million or so
    dealt[tied] = rng.permuted(np.broadcast_to(own, (int(tied.sum()), len(own))), axis=1)
    return dealt


def _signs(sample: Sample) -> NDArray[np.float32]:
    if sample.side is None:
        return np.ones(len(sample.values), np.float32)
    return sample.side.astype(np.float32)


def _freedom(sample: Sample) -> int:
    if sample.side is None:
        return max(len(sample.values) - 1, 1)
    ones = int(sample.side.sum())
    return max(min(ones, len(sample.side) - ones) - 1, 1)


def _effects(
    values: NDArray[np.floating], signs: NDArray[np.floating], sample: Sample
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return differences and their standard errors (B, K) for sides or signs (B, n).

    Welch's standard error. A side whose values are all equal gets a small share of the pooled
    variance, so that no statistic is infinite.
    """
    n = len(values)
    squares = values**2
    if sample.side is None:
        mean = signs @ values / n
        variance = np.maximum(squares.sum(0) / n - mean**2, _LEAST_VARIANCE * squares.mean(0))
        return mean, np.sqrt(variance / max(n - 1, 1))
    ones = int(sample.side.sum())
    total, total_square = values.sum(0), squares.sum(0)
    pooled = np.maximum(total_square / n - (total / n) ** 2, 0)
    sums, square_sums = signs @ values, signs @ squares
    error = np.zeros_like(sums)
    means = []
    for count, part, square in (
        (ones, sums, square_sums),
        (n - ones, total - sums, total_square - square_sums),
    ):
        mean = part / count
        variance = np.maximum(square / count - mean**2, _LEAST_VARIANCE * pooled)
        error += variance / max(count - 1, 1)
        means.append(mean)
    return means[0] - means[1], np.sqrt(error)


def _as_normal(t: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """Map values of Student's t to the normal scale (Wallace 1959), so that few units weigh less.

    Else a comparison with a few units, whose t has heavy tails, sets the yardstick of all.
    """
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return np.asarray(scale * np.sqrt(freedom * np.log1p(t**2 / freedom)))


def _as_t(normal: float, freedom: int) -> float:
    """Invert _as_normal."""
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return float(np.sqrt(freedom * np.expm1((normal / scale) ** 2 / freedom)))


def _p_values(statistic: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p of statistics (K,) by a sorted null (B,), which counts the observation itself."""
    at_least = len(null) - np.searchsorted(null, statistic, side="left")
    return np.asarray((1 + at_least) / (len(null) + 1))


def _quantile(null: NDArray[np.float64], level: float) -> float:
    """Return the smallest value whose p is at most the level."""
    place = int(np.ceil((1 - level) * (len(null) + 1))) - 1
    return float(null[min(place, len(null) - 1)])
