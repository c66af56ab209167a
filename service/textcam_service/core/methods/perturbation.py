"""Methods that read scores of changed images or changed maps. No gradients.

Passes are queried in chunks: memory stays bounded, and a deadline can be obeyed in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from textcam_service.core.cam import activation_scores, head_row
from textcam_service.core.methods.arrays import masks, reproducing_weights, unit_range
from textcam_service.core.methods.base import (
    CamTerms,
    HeadPasses,
    ImagePasses,
    MethodInput,
    MethodSettings,
    Query,
    QueryGenerator,
)
from textcam_service.core.probability import softmax
from textcam_service.core.types import Float32Array, Float64Array, FloatArray, IntArray


def score_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """Score-CAM: softmax over channels of score(X m_j), m_j = A_j stretched and scaled to 0..1.

    Wang et al. 2020, arXiv 1910.01279; the score of the reference image drops out of
    the softmax. At most D passes: all channels that never vary share one black image.
    """
    sources, owners = _mask_sources(inputs.on_grid(np.asarray(inputs.activation_maps)))

    def masked(part: slice) -> Float32Array:
        return masks(sources[part], *inputs.image.shape[1:])[:, None] * inputs.image

    scores = yield from image_scores(inputs, len(sources), settings.chunk, masked)
    return CamTerms(softmax(scores[owners]))


def ss_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """SS-CAM: as Score-CAM, the scores averaged over n noisy masks m_j + N(0, sigma^2).

    Wang et al. 2020, arXiv 2006.14255, with the noise on the mask; n = 35, sigma = 2.
    All channels get the same n fields of noise, drawn by the seed: the softmax compares
    channels, not luck. At most n D passes.
    """
    sources, owners = _mask_sources(inputs.on_grid(np.asarray(inputs.activation_maps)))
    height, width = inputs.image.shape[1:]
    scores = np.zeros(len(sources))
    for start in range(0, len(sources), settings.chunk):
        part = slice(start, start + settings.chunk)
        clean = masks(sources[part], height, width)
        for sample in range(settings.smooth_samples):
            noise = smoothing_noise(settings, sample, height, width)
            logits = yield ImagePasses((clean + noise)[:, None] * inputs.image)
            scores[part] += inputs.score(logits)
    return CamTerms(softmax(scores[owners] / settings.smooth_samples))


def ablation_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """Ablation-CAM: by how much the score drops when A_j is set to 0.

    Desai and Ramaswamy 2020, WACV, without its division by the score, which only scales the map,
    and inverts it if the score is negative. At most D passes of the head; none with a GAP + linear
    head, where the drop is w_j a_j.
    """
    if inputs.head_weights is not None:
        row = head_row(inputs.class_weights, inputs.head_weights)
        return CamTerms(row * activation_scores(inputs.activation_maps))
    maps = np.asarray(inputs.activation_maps)
    alive = np.flatnonzero(maps.any(axis=(1, 2)))

    def ablated(part: slice) -> Float32Array:
        channels = alive[part]
        batch = np.repeat(maps[None], len(channels), axis=0)
        batch[np.arange(len(channels)), channels] = 0
        return batch

    drops = np.zeros(len(maps))
    scores = yield from _head_scores(inputs, len(alive), settings.chunk, ablated)
    drops[alive] = inputs.score(inputs.logits) - scores
    return CamTerms(drops)


def recipro_cam(inputs: MethodInput, settings: MethodSettings) -> QueryGenerator:
    """Recipro-CAM: the score of the maps with a single position kept.

    Byun and Lee 2022, arXiv 2209.14074, with its spatial masks of one cell. The score of empty maps
    is subtracted, so that 0 means that a position adds nothing. The result is multiplied by H W, so
    that with a GAP + linear head it is CAM, which needs no passes. Other heads take at most H W + 1
    passes of the head; the channel weights reproduce the map.
    """
    if inputs.head_weights is not None:
        return CamTerms(head_row(inputs.class_weights, inputs.head_weights))
    maps = np.asarray(inputs.activation_maps)
    flat = maps.reshape(len(maps), -1)
    # The first is nowhere: empty maps.
    kept = np.concatenate([[-1], np.flatnonzero(flat.any(axis=0))])

    def alone(part: slice) -> Float32Array:
        cells = kept[part]
        batch = np.zeros((len(cells), *flat.shape), np.float32)
        rows = np.flatnonzero(cells >= 0)
        batch[rows, :, cells[rows]] = flat[:, cells[rows]].T
        return batch.reshape(len(cells), *maps.shape)

    scores = yield from _head_scores(inputs, len(kept), settings.chunk, alone)
    saliency = np.zeros(maps.shape[1:])
    saliency.flat[kept[1:]] = inputs.cells * (scores[1:] - scores[0])
    return CamTerms(reproducing_weights(maps, saliency), np.asarray(saliency, np.float32))


def image_scores(
    inputs: MethodInput, count: int, chunk: int, images: Callable[[slice], Float32Array]
) -> Generator[Query, Any, Float64Array]:
    """Query the scores (count,) of images that are made chunk by chunk."""
    scores = np.empty(count)
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        scores[part] = inputs.score((yield ImagePasses(images(part))))
    return scores


def smoothing_noise(settings: MethodSettings, sample: int, height: int, width: int) -> Float32Array:
    """Draw SS-CAM's field of noise (height, width), the same for all channels."""
    random = np.random.default_rng([settings.seed, sample])
    return settings.smooth_sigma * random.standard_normal((height, width), np.float32)


def _head_scores(
    inputs: MethodInput, count: int, chunk: int, maps: Callable[[slice], Float32Array]
) -> Generator[Query, Any, Float64Array]:
    scores = np.empty(count)
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        scores[part] = inputs.score((yield HeadPasses(maps(part))))
    return scores


def _mask_sources(activation_maps: FloatArray) -> tuple[Float32Array, IntArray]:
    """Return distinct maps (L, H, W) to make masks of, and each channel's place (D,) in them."""
    sources = unit_range(activation_maps)
    alive = sources.any(axis=(1, 2))
    owners = np.where(alive, np.cumsum(alive) - 1, alive.sum())
    if alive.all():
        return sources, owners
    return np.concatenate([sources[alive], np.zeros_like(sources[:1])]), owners
