"""Channel embeddings: the direction of each channel in the embedder's image-text space.

TextCAM (arXiv 2510.01004), section on channel semantics: the images that activate a
channel most and least are separated by two-class linear discriminant analysis on
their embeddings. scikit-learn's LinearDiscriminantAnalysis(solver="lsqr",
shrinkage="auto") computes the same, one channel at a time; here a batch of channels
is solved at once, through the low rank of the within-class scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from textcam_service.core.concepts import baselines
from textcam_service.core.concepts.activated_regions import RegionSettings
from textcam_service.core.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    IntArray,
)
from textcam_service.core.vectors import unit

Direction = Literal["lda", "mean_difference", "correlation", "top_mean", "contrast", "soft_wpmi"]

InOrder = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Function like map: applies a function to items, and returns the results in their order."""

TWO_CLASS: tuple[Direction, ...] = ("lda", "mean_difference")
"""Directions that depend only on the two sets of samples."""

_BATCH_BYTES = 16 * 2**20
# Ledoit and Wolf's shrinkage is 0 if a class consists of two embeddings in equal parts, as two
# samples always do. The covariance would have no inverse.
_LEAST_SHRINKAGE = 1e-6
_TINY = 1e-30  # keeps the diagonal invertible where a class does not vary at all


@dataclass(frozen=True)
class ChannelSettings:
    """Settings of channel embeddings.

    Attributes:
        direction: "lda", or for comparison "mean_difference" (of the same two sets),
            "correlation" (of the score with the embedding, over the whole probing set),
            "top_mean", "contrast" or "soft_wpmi" (see core.concepts.baselines).
        samples: M, the size of each of the two sets.
        shrinkage: Shrinkage of the within-class covariance, from 1e-6 to 1; None: Ledoit-Wolf.
        remove_common: Remove the mean of all directions from each. A single direction stays as it
            is.
        regions: Settings of the activated regions that replace the samples, with a direction of
            TWO_CLASS; None: whole images are embedded.
    """

    direction: Direction = "lda"
    samples: int = 100
    shrinkage: float | None = None
    remove_common: bool = True
    regions: RegionSettings | None = None


@dataclass(frozen=True)
class ChannelDirections:
    """Embeddings of D channels.

    Attributes:
        embeddings: (D, E) unit vectors, from little to much activation; a dead channel's is 0.
        dead: (D,) True where the channel's score never varies.
        common_direction: (E,) removed from every direction; 0 if nothing was removed.
    """

    embeddings: Float32Array
    dead: BoolArray
    common_direction: Float32Array


def extreme_samples(scores: FloatArray, count: int) -> tuple[IntArray, IntArray]:
    """Find each channel's M lowest and M highest samples.

    Samples are ordered by score, ties by sample index (ReLU channels tie at 0), so the
    two sets are disjoint whenever 2 M <= N.

    Args:
        scores: (N, D) activation scores, float32.
        count: M.

    Returns:
        (D, M) indices of the lowest and (D, M) of the highest, each in ascending index.
    """
    samples, channels = scores.shape
    low = np.empty((channels, count), np.int64)
    high = np.empty((channels, count), np.int64)
    index = np.arange(samples, dtype=np.uint64)
    for channel in range(channels):
        keys = _order_preserving_bits(scores[:, channel]) << np.uint64(32) | index
        keys.partition((count - 1, samples - count))
        low[channel] = np.sort(keys[:count] & np.uint64(0xFFFFFFFF))
        high[channel] = np.sort(keys[samples - count :] & np.uint64(0xFFFFFFFF))
    return low, high


def channel_directions(
    scores: FloatArray,
    embeddings: FloatArray,
    settings: ChannelSettings,
    progress: Callable[[int], None] = lambda _: None,
    texts: FloatArray | None = None,
    samples: tuple[IntArray, IntArray] | None = None,
    in_order: InOrder = map,
) -> ChannelDirections:
    """Compute the embeddings of all channels.

    Args:
        scores: (N, D) activation scores over the probing set.
        embeddings: (N, E) unit embeddings of the same images; with `samples`, (R, E) of the
            samples.
        settings: See ChannelSettings; 2 M <= N.
        progress: Called with the number of channels finished since the last call.
        texts: (V, E) unit embeddings of the vocabulary, which "soft_wpmi" alone needs.
        samples: (D, M) rows of `embeddings` that stand for each channel's lowest images, and
            (D, M) for its highest, with a direction of TWO_CLASS; None: the images' own rows.
        in_order: Called with a function of a part of the channels, and the parts; returns the
            results in order. It may compute several parts at a time.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    dead = scores.max(axis=0) == scores.min(axis=0)
    live = np.flatnonzero(~dead)
    varying = _varying_dimensions(embeddings)
    embeddings = np.ascontiguousarray(embeddings[:, varying])
    directions = np.zeros((scores.shape[1], embeddings.shape[1]))
    if settings.direction not in TWO_CLASS:
        words = None if texts is None else texts[:, varying]
        directions[live] = _other(scores[:, live], embeddings, settings, words)
        progress(len(live))
    else:
        if samples is None:
            low, high = extreme_samples(scores[:, live], settings.samples)
        else:
            low, high = samples[0][live], samples[1][live]

        def separated(batch: slice) -> Float64Array:
            return _two_class_directions(
                np.asarray(embeddings[low[batch]], np.float64),
                np.asarray(embeddings[high[batch]], np.float64),
                settings,
            )

        per_channel = 2 * settings.samples * embeddings.shape[1] * 8
        step = max(1, _BATCH_BYTES // per_channel)
        batches = [slice(start, start + step) for start in range(0, len(live), step)]
        for batch, found in zip(batches, in_order(separated, batches), strict=True):
            directions[live[batch]] = found
            progress(len(live[batch]))
    directions[live] = unit(directions[live])
    common = np.zeros(embeddings.shape[1])
    if settings.remove_common and len(live) > 1:
        common = directions[live].mean(axis=0)
        directions[live] = unit(directions[live] - common)
    whole = np.zeros((len(directions) + 1, len(varying)), np.float32)
    whole[:, varying] = np.vstack([directions, common])
    return ChannelDirections(whole[:-1], dead, whole[-1])


def _two_class_directions(
    low: Float64Array, high: Float64Array, settings: ChannelSettings
) -> Float64Array:
    """Separate lowest from highest embeddings (B, M, E): directions (B, E), not normalised."""
    low_mean, high_mean = low.mean(axis=1), high.mean(axis=1)
    difference = high_mean - low_mean
    if settings.direction == "mean_difference":
        return np.asarray(difference)
    low_rank, low_diagonal = _shrunk_scatter(low - low_mean[:, None], settings.shrinkage)
    high_rank, high_diagonal = _shrunk_scatter(high - high_mean[:, None], settings.shrinkage)
    # Equal priors: Sigma_w is the mean of the two classes' covariances.
    rank = np.concatenate([low_rank, high_rank], axis=1) * np.sqrt(0.5)
    return _solve(rank, 0.5 * (low_diagonal + high_diagonal), difference)


def _shrunk_scatter(
    centred: Float64Array, shrinkage: float | None
) -> tuple[Float64Array, Float64Array]:
    """Split one class's shrunk covariance into U^T U + diag(d).

    Both forms are scikit-learn's: with Ledoit-Wolf the correlation matrix R is shrunk and
    scaled back, S = diag(std) ((1 - g) R + g mu I) diag(std); with a fixed g the covariance itself
    is shrunk, S = (1 - g) C + g tr(C) / E I.

    Args:
        centred: (B, M, E) embeddings less their mean.
        shrinkage: g; None: Ledoit and Wolf (2004), lemma 3.3, but at least _LEAST_SHRINKAGE.

    Returns:
        U (B, M, E) and d (B, E).
    """
    samples, dimensions = centred.shape[1:]
    variance = np.mean(centred**2, axis=1)
    if shrinkage is not None:
        identity = shrinkage * variance.mean(axis=1, keepdims=True)
        diagonal = np.broadcast_to(identity, variance.shape)
        return centred * np.sqrt((1 - shrinkage) / samples), np.maximum(diagonal, _TINY)
    varies = variance > (10 * np.finfo(np.float64).eps) ** 2
    std = np.where(varies, np.sqrt(variance), 1.0)
    mean_variance = varies.mean(axis=1)
    standardized = centred / std[:, None]
    gram = standardized @ standardized.transpose(0, 2, 1)
    scatter = np.sum(gram**2, axis=(1, 2)) / samples**2
    fourth = np.sum(np.diagonal(gram, axis1=1, axis2=2) ** 2, axis=1) / samples
    spread = (fourth - scatter) / (dimensions * samples)
    distance = scatter / dimensions - mean_variance**2
    safe = np.where(distance > 0, distance, 1.0)
    gamma = np.where(distance > 0, np.clip(spread, 0, distance) / safe, 1.0)
    gamma = np.maximum(gamma, _LEAST_SHRINKAGE)
    factor = centred * np.sqrt((1 - gamma) / samples)[:, None, None]
    return factor, np.maximum((gamma * mean_variance)[:, None] * std**2, _TINY)


def _solve(rank: Float64Array, diagonal: Float64Array, right: Float64Array) -> Float64Array:
    """Solve (U^T U + diag(d)) s = r for U (B, K, E), d (B, E), r (B, E)."""
    if rank.shape[1] >= rank.shape[2]:
        covariance = rank.transpose(0, 2, 1) @ rank
        covariance += np.eye(rank.shape[2]) * diagonal[:, None, :]
        return np.asarray(np.linalg.solve(covariance, right[..., None])[..., 0])
    # Woodbury: a K x K system in place of an E x E one.
    scaled = right / diagonal
    weighted = rank / diagonal[:, None]
    inner = weighted @ rank.transpose(0, 2, 1) + np.eye(rank.shape[1])
    correction = np.linalg.solve(inner, rank @ scaled[..., None])
    return np.asarray(scaled - (weighted.transpose(0, 2, 1) @ correction)[..., 0])


def _other(
    scores: FloatArray, embeddings: FloatArray, settings: ChannelSettings, texts: FloatArray | None
) -> Float64Array:
    """Compute the directions of all live channels at once."""
    if settings.direction == "correlation":
        return _correlation(scores, embeddings)
    if settings.direction == "top_mean":
        return baselines.top_mean(scores, embeddings, settings.samples)
    if settings.direction == "contrast":
        return baselines.contrast(scores, embeddings, settings.samples)
    if texts is None:
        raise ValueError("soft_wpmi needs the vocabulary's embeddings")
    return baselines.soft_wpmi(scores, embeddings, texts, settings.samples)


def _correlation(scores: FloatArray, embeddings: FloatArray) -> Float64Array:
    """Compute the covariance of standardised scores (N, D) with embeddings (N, E): (D, E)."""
    centred = np.asarray(scores, np.float64)
    centred = (centred - centred.mean(axis=0)) / centred.std(axis=0)
    return np.asarray(centred.T @ np.asarray(embeddings, np.float64) / len(centred))


def _order_preserving_bits(values: FloatArray) -> NDArray[np.uint64]:
    """Map float32 to integers of the same order; -0 and 0 stay equal."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)
    flipped = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    return np.asarray(flipped, np.uint64)


def _varying_dimensions(embeddings: FloatArray) -> BoolArray:
    """Find the dimensions that vary over the probing set: (N, E) -> (E,).

    Some encoders leave dimensions at rounding noise (all-MiniLM-L6-v2: three of 384);
    divided by its tiny spread, such a dimension would dominate every direction.
    """
    spread = embeddings.std(axis=0)
    return np.asarray(spread > 1e-6 * spread.max())
