"""What is said: few phrases that are probable, that the evidence speaks for, and that differ.

A phrase may be said where its probability reaches a threshold *and* the evidence itself multiplies
its odds: without the first rare phrases are said by chance, without the second common ones are
said whatever the network saw. What is said explains what is like it: a phrase whose score follows
from a said one's, by how alike they are over the probing images, adds nothing and is left out.
"""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import BoolArray, FloatArray, IntArray, RationaleSettings

_EDGE = 1e-6
# By how much a deviation of the score raises a phrase's log-odds in the order: what is probable of
# all such images ("indoor scene") comes after what this one's evidence speaks for.
_SPECIFIC = 0.3


def choose(
    probabilities: FloatArray,
    scores: FloatArray,
    slope: float,
    likeness: FloatArray,
    count: int,
    settings: RationaleSettings,
    allowed: BoolArray,
    fallback: BoolArray,
    apart: BoolArray | None = None,
) -> IntArray:
    """Choose what to say of one image, best first.

    Args:
        probabilities: (V,) of each phrase, 0..1.
        scores: (V,) s_v in deviations.
        slope: a, by which a score changes the log-odds.
        likeness: (V, V) correlation of phrases over the probing images or the table's classes.
        count: At most so many phrases.
        settings: See RationaleSettings.
        allowed: (V,) what may be said at all.
        fallback: (V,) broad phrases, of which one is said where nothing else can be.
        apart: (V, V) pairs that must not be said together; None: there are none.

    Returns:
        (K,) places, K <= count; none is an answer. Ties go to the lower place.
    """
    spoken_for = slope * scores >= np.log(settings.min_odds)
    able = allowed & spoken_for & (probabilities >= settings.min_probability)
    pool = np.flatnonzero(able & ~fallback)
    if not len(pool):
        broad = np.flatnonzero(able & fallback)
        return broad[np.argmax(probabilities[broad])][None] if len(broad) else broad
    chances = np.clip(probabilities[pool], _EDGE, 1 - _EDGE)
    worth = np.log(chances / (1 - chances)) + _SPECIFIC * scores[pool]
    pool = pool[np.argsort(-worth, kind="stable")]
    own, alike = scores[pool], np.maximum(likeness[np.ix_(pool, pool)], 0)
    near = np.zeros_like(alike, bool) if apart is None else apart[np.ix_(pool, pool)]
    said: list[int] = []
    open_ = np.ones(len(pool), bool)
    explained = np.zeros(len(pool))
    while len(said) < count:
        fresh = np.flatnonzero(open_ & (own - explained >= settings.min_gain))
        if not len(fresh):
            break
        place = int(fresh[0])
        said.append(place)
        open_[place] = False
        open_ &= ~near[place]
        explained = np.maximum(explained, alike[place] * own[place])
    return pool[said]
