"""Choice of few phrases that are probable, supported by the evidence, and different.

A phrase may be chosen if its probability reaches a threshold *and* the evidence itself multiplies
its odds. Without the first, rare phrases are chosen by chance; without the second, common ones are
chosen whatever the network saw. A chosen phrase explains similar ones: of a phrase's score s_v, the
part L_vu s_u follows from a chosen phrase u, by their likeness L over the probing images.

There are two stages. First come new phrases: a second, weaker cue comes before a mixture of it with
the first cue, although the mixture scores higher. The reason is that the mixture is also explained
by phrases with about the first one's score, which *could* have been chosen instead. Then come
further phrases, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import BoolArray, Float64Array, FloatArray, IntArray

# A phrase that scores a fifth less than the first chosen one no longer explains in its place.
_REACH = 0.2
# Number of the best phrases that are considered; others have never come near a choice.
_CONSIDERED = 128


@dataclass(frozen=True)
class Choice:
    """K chosen phrases.

    Attributes:
        indices: (K,) indices in the vocabulary, best first.
        scores: (K,) what they were chosen by, > 0: by supports, how far the evidence speaks for
            the phrase, in deviations of the probing images' own; by embeddings, the coefficient
            beta of the sparse approximation.
        similarities: (K,) cosines of the evidence with the phrase's supports, or of the evidence
            embedding with the phrase's.
        probabilities: (K,) that they are true of what the network saw; None: not calibrated.
    """

    indices: IntArray
    scores: Float64Array
    similarities: Float64Array
    probabilities: Float64Array | None = None


@dataclass(frozen=True)
class Candidates:
    """Phrases to choose among.

    Attributes:
        priority: (V,) values by which phrases are ordered.
        scores: (V,) s_v in deviations, > 0 where `eligible`.
        eligible: (V,) phrases that may be chosen.
        likeness: (V, V) L, 0..1.
        exclusive: (V, V) pairs that exclude each other; None: there are none.
    """

    priority: FloatArray
    scores: FloatArray
    eligible: BoolArray
    likeness: FloatArray
    exclusive: BoolArray | None = None


def choose(
    candidates: Candidates,
    count: int,
    settings: RationaleSettings,
    preselected: IntArray | None = None,
) -> IntArray:
    """Choose the phrases of one image, best first.

    Args:
        candidates: Phrases to choose among.
        count: Maximum number of phrases.
        settings: See RationaleSettings: `min_new` and `min_more`.
        preselected: (B,) eligible phrases that are chosen already; None: none.

    Returns:
        (K,) indices, K <= count, best first, those `preselected` at the start; may be empty. Ties
        go to the lower index.
    """
    pool = np.flatnonzero(candidates.eligible)
    if not len(pool):
        return pool
    first = np.zeros(0, np.int64) if preselected is None else np.asarray(preselected, np.int64)
    pool = pool[np.argsort(-candidates.priority[pool], kind="stable")]
    pool = np.concatenate([first, pool[~np.isin(pool, first)]])[:_CONSIDERED]
    own = np.asarray(candidates.scores[pool], np.float64)
    explains = candidates.likeness[np.ix_(pool, pool)] * own  # [v, u]: what u explains of v
    free = np.ones(len(pool), bool)
    chosen: list[int] = []

    def take(place: int) -> None:
        chosen.append(place)
        free[place] = False
        if candidates.exclusive is not None:
            free[candidates.exclusive[pool[place], pool]] = False

    for place in range(max(1, len(first))):
        take(place)
    explained = np.maximum(_instead_of_first(own, explains), explains[:, chosen].max(axis=1))
    while len(chosen) < count:
        novelty = np.where(free, (own - explained) / np.sqrt(own), -np.inf)
        newest = int(novelty.argmax())
        if novelty[newest] < settings.min_new:
            break
        take(newest)
        explained = np.maximum(explained, explains[:, chosen[-1]])
    explained = explains[:, chosen].max(axis=1)
    while len(chosen) < count:
        further = np.flatnonzero(free & (own - explained >= settings.min_more))
        if not len(further):
            break
        take(int(further[0]))
        explained = np.maximum(explained, explains[:, chosen[-1]])
    return pool[chosen]


def _instead_of_first(own: Float64Array, explains: Float64Array) -> Float64Array:
    """Compute what the first phrase explains, or higher ones that score nearly as it does: (K,)."""
    replaces = np.clip(1 - (1 - own / own[0]) / _REACH, 0, 1)
    higher = own[None, :] > own[:, None]
    instead = (explains * replaces * higher).max(axis=1)
    return np.asarray(np.maximum(instead, explains[:, 0]))
