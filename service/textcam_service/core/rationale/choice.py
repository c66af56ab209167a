"""Choice of few phrases that are probable, supported by the evidence, and different.

A phrase may be chosen if its probability reaches a threshold *and* the evidence itself multiplies
its odds. Without the first, rare phrases are chosen by chance; without the second, common ones are
chosen whatever the network saw. A chosen phrase explains similar ones: of a phrase's score s_v, the
part L_vu s_u follows from a chosen phrase u, by their likeness L over the probing images.

Two stages. First new phrases: a second, weaker cue comes before a mixture of it with the first,
although the mixture scores higher. For the mixture is also explained by phrases of about the first
one's score, which *could* have been chosen in its place. Then further phrases, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.core.types import BoolArray, Float64Array, FloatArray, IntArray

# A phrase that scores a fifth less than the first chosen one no longer explains in its place.
_REACH = 0.2
# At most so many of the best are considered: others have never come near.
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


def choose(
    worth: FloatArray,
    scores: FloatArray,
    able: BoolArray,
    likeness: FloatArray,
    count: int,
    settings: RationaleSettings,
    apart: BoolArray | None = None,
    before: IntArray | None = None,
) -> IntArray:
    """Choose the phrases of one image, best first.

    Args:
        worth: (V,) by which phrases are ordered.
        scores: (V,) s_v in deviations, > 0 where `able`.
        able: (V,) phrases that may be chosen.
        likeness: (V, V) L, 0..1.
        count: At most so many phrases.
        settings: See RationaleSettings: `min_new` and `min_more`.
        apart: (V, V) pairs that exclude each other; None: there are none.
        before: (B,) of `able`, phrases that are chosen already; None: none.

    Returns:
        (K,) indices, K <= count, best first, those `before` at the start; may be empty. Ties go to
        the lower index.
    """
    pool = np.flatnonzero(able)
    if not len(pool):
        return pool
    first = np.zeros(0, np.int64) if before is None else np.asarray(before, np.int64)
    pool = pool[np.argsort(-worth[pool], kind="stable")]
    pool = np.concatenate([first, pool[~np.isin(pool, first)]])[:_CONSIDERED]
    own = np.asarray(scores[pool], np.float64)
    explains = likeness[np.ix_(pool, pool)] * own  # [v, u]: what u explains of v
    free = np.ones(len(pool), bool)
    said: list[int] = []

    def say(place: int) -> None:
        said.append(place)
        free[place] = False
        if apart is not None:
            free[apart[pool[place], pool]] = False

    for place in range(max(1, len(first))):
        say(place)
    told = np.maximum(_instead_of_first(own, explains), explains[:, said].max(axis=1))
    while len(said) < count:
        new = np.where(free, (own - told) / np.sqrt(own), -np.inf)
        newest = int(new.argmax())
        if new[newest] < settings.min_new:
            break
        say(newest)
        told = np.maximum(told, explains[:, said[-1]])
    told = explains[:, said].max(axis=1)
    while len(said) < count:
        fresh = np.flatnonzero(free & (own - told >= settings.min_more))
        if not len(fresh):
            break
        say(int(fresh[0]))
        told = np.maximum(told, explains[:, said[-1]])
    return pool[said]


def _instead_of_first(own: Float64Array, explains: Float64Array) -> Float64Array:
    """Compute what the first phrase explains, or higher ones that score nearly as it does: (K,)."""
    stead = np.clip(1 - (1 - own / own[0]) / _REACH, 0, 1)
    higher = own[None, :] > own[:, None]
    instead = (explains * stead * higher).max(axis=1)
    return np.asarray(np.maximum(instead, explains[:, 0]))
