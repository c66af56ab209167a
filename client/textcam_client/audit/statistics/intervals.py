"""Intervals of means, differences, ratios of sums and proportions over units.

Small samples get BCa bootstrap intervals. From LARGE units on, normal theory is used, from which
BCa then differs little and which costs a thousandth of the time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from textcam_client.audit.statistics.estimates import Estimate

LARGE = 400
"""Units from which on normal theory replaces the bootstrap."""

RESAMPLES = 1999
_TOO_FEW = "fewer than 2 images"
_ALL_EQUAL = "all values are equal, so there is nothing to resample"


def mean_estimates(values: NDArray[Any], level: float, seed: int) -> list[Estimate]:
    """Estimate the mean of each column of values (n, K)."""
    n = len(values)
    centre = values.mean(0, dtype=np.float64) if n else np.full(values.shape[1], np.nan)
    if n < 2:
        return [Estimate(float(each), None, None, _TOO_FEW) for each in centre]
    if n >= LARGE:
        half = stats.norm.isf(level / 2) * values.std(0, ddof=1, dtype=np.float64) / np.sqrt(n)
        return [_estimate(c, c - h, c + h) for c, h in zip(centre, half, strict=True)]
    low, high = _columns(lambda weights: weights @ values / n, n, level, seed)
    return [_estimate(*each) for each in zip(centre, low, high, strict=True)]


def difference_estimate(
    ones: NDArray[Any], others: NDArray[Any], level: float, seed: int
) -> Estimate:
    """Estimate the difference of means of two samples (n,), (m,)."""
    if min(len(ones), len(others)) < 2:
        value = float(ones.mean() - others.mean()) if len(ones) and len(others) else np.nan
        return Estimate(value, None, None, f"one side has {_TOO_FEW}")
    value = float(ones.mean() - others.mean())
    if min(len(ones), len(others)) >= LARGE:
        error = np.sqrt(ones.var(ddof=1) / len(ones) + others.var(ddof=1) / len(others))
        half = stats.norm.isf(level / 2) * error
        return _estimate(value, value - half, value + half)
    return _estimate(value, *_bootstrap((ones, others), _difference, level, seed))


def ratio_estimates(
    parts: NDArray[Any], whole: NDArray[Any], level: float, seed: int
) -> list[Estimate | None]:
    """Estimate sum over sum for each column of parts (n, K) and one whole (n,).

    Never a mean of ratios, whose denominators cross 0. None where the interval of the whole's own
    mean touches 0: there is no share of nothing.
    """
    n = len(whole)
    if n < 2:
        return [None] * parts.shape[1]
    base = mean_estimates(whole[:, None], level, seed)[0]
    if base.low is None or base.high is None or base.low <= 0 <= base.high:
        return [None] * parts.shape[1]
    centre = parts.sum(0, dtype=np.float64) / whole.sum()
    if n >= LARGE:  # by linearisation
        residual = (parts - whole[:, None] * centre) / whole.mean()
        half = stats.norm.isf(level / 2) * residual.std(0, ddof=1) / np.sqrt(n)
        return [_estimate(c, c - h, c + h) for c, h in zip(centre, half, strict=True)]
    low, high = _columns(
        lambda weights: (weights @ parts) / (weights @ whole)[:, None], n, level, seed
    )
    return [_estimate(*each) for each in zip(centre, low, high, strict=True)]


def proportion_estimate(count: int, total: int, level: float) -> Estimate:
    """Estimate a proportion by Wilson's interval."""
    return proportion_estimates(np.array([count]), total, level)[0]


def proportion_estimates(counts: NDArray[np.integer], total: int, level: float) -> list[Estimate]:
    """Estimate proportions (K,) of one total by Wilson's intervals."""
    if not total:
        return [Estimate(float("nan"), None, None, "no cases")] * len(counts)
    low, high = proportion_confint(counts, total, level, "wilson")
    return [_estimate(*each) for each in zip(counts / total, low, high, strict=True)]


def proportion_difference(ones: tuple[int, int], others: tuple[int, int], level: float) -> Estimate:
    """Estimate the difference of two proportions, (count, total) each, by Newcombe's interval."""
    if not ones[1] or not others[1]:
        return Estimate(float("nan"), None, None, "one side has no cases")
    low, high = confint_proportions_2indep(
        *ones, *others, method="newcomb", compare="diff", alpha=level
    )
    value = ones[0] / ones[1] - others[0] / others[1]
    return Estimate(value, float(low), float(high))


def worst_group(groups: Sequence[NDArray[np.bool_]], level: float, seed: int) -> Estimate:
    """Estimate the lowest accuracy of groups of right (True) and wrong units.

    The minimum of noisy accuracies is too low on average. The interval is the bootstrap's of the
    minimum itself: counts of each group are drawn again by its own binomial distribution.
    """
    if not groups or not all(len(group) for group in groups):
        return Estimate(float("nan"), None, None, "a group has no cases")
    sizes = np.array([len(group) for group in groups])
    shares = np.array([group.mean() for group in groups])
    drawn = np.random.default_rng(seed).binomial(sizes, shares, (RESAMPLES, len(sizes))) / sizes
    low, high = np.quantile(drawn.min(1), [level / 2, 1 - level / 2])
    return Estimate(float(shares.min()), float(low), float(high))


def _columns(
    statistic: Callable[[NDArray[Any]], NDArray[Any]], n: int, level: float, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends (K,) of BCa intervals of a statistic of weights (b, n) that returns (b, K).

    Resamples are of places, so that one matrix product serves all columns.
    """

    def of_places(places: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        flat = places.astype(np.int64).reshape(-1, places.shape[axis])
        starts = n * np.arange(len(flat))[:, None]
        counts = np.bincount((flat + starts).ravel(), minlength=n * len(flat))
        weights = counts.reshape(len(flat), n) * (n / flat.shape[1])
        return np.moveaxis(statistic(weights), -1, 0).reshape(-1, *places.shape[:-1])

    return _bootstrap((np.arange(n),), of_places, level, seed)


def _bootstrap(
    data: tuple[NDArray[Any], ...],
    statistic: Callable[..., NDArray[Any]],
    level: float,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of BCa intervals; NaN where the resamples are all equal."""
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            tuple(np.asarray(each, np.float64) for each in data),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=1 - level,
            axis=-1,
            vectorized=True,
            batch=100,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return found.low, found.high


def _difference(ones: NDArray[Any], others: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    return np.asarray(ones.mean(axis=axis) - others.mean(axis=axis))


def _estimate(value: Any, low: Any, high: Any) -> Estimate:
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(float(value), None, None, _ALL_EQUAL)
    return Estimate(float(value), float(low), float(high))
