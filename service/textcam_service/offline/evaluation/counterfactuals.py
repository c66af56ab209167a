"""Counterfactuals: what a phrase's removal from a rendered scene does to the logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from textcam_service.core.cam import channel_evidence
from textcam_service.core.concepts.supports import effects
from textcam_service.core.types import Float64Array, FloatArray, IntArray
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import (
    Observation,
    Truth,
    logits_of,
    terms_of,
)
from textcam_service.offline.evaluation.localization import objects_with
from textcam_service.scenes.render import render
from textcam_service.scenes.world import ATTRIBUTES, FLOORS, Scene

_REMOVED = 4  # phrases of the class, and as many others, that are taken out of a scene
_RESAMPLED = 200


@dataclass(frozen=True)
class Removals:
    """Phrases that are true of scenes, each taken out of its scene.

    Attributes:
        observations: Observations of the unchanged scenes.
        places: (P,) index of each phrase's scene.
        phrases: (P,) places in the vocabulary.
        costs: (P,) drop of the predicted class's logit when the phrase is removed.
    """

    observations: Sequence[Observation]
    places: IntArray
    phrases: IntArray
    costs: Float64Array


def removals(bundle: ModelBundle, observations: Sequence[Observation], truth: Truth) -> Removals:
    """Take phrases out of scenes: the class's own, and as many others that are true of the scene.

    In every object of which the phrase is true, the renderer replaces its words by others (or the
    scene's floor by another). At most four of each kind are drawn from the vocabulary.
    """
    rng = np.random.default_rng(0)
    place = {phrase: index for index, phrase in enumerate(bundle.phrases)}
    pairs: list[tuple[int, int]] = []
    changed: list[Image.Image] = []
    for index, observation in enumerate(observations):
        scene = observation.case.scene
        assert scene is not None  # noqa: S101 - the caller chose scenes
        right = truth.right(observation.case, observation.prediction.class_index)
        there = sorted(phrase for phrase in scene.phrases if phrase in place)
        kinds = [[p for p in there if (p in right) is own] for own in (True, False)]
        count = min(_REMOVED, *map(len, kinds))
        for phrase in [str(p) for kind in kinds for p in rng.permutation(kind)[:count]]:
            other = without_phrase(scene, phrase, rng)
            assert other is not None  # noqa: S101 - it is true of it
            pairs.append((index, place[phrase]))
            changed.append(Image.fromarray(render(other).image))
    places, phrases = np.array(pairs, np.int64).reshape(-1, 2).T
    classes = np.array([o.prediction.class_index for o in observations])[places]
    before = np.array([o.prediction.logit for o in observations])[places]
    after = logits_of(bundle, changed)[np.arange(len(pairs)), classes]
    return Removals(observations, places, phrases, before - after)


def counterfactual_agreement(
    removed: Removals, estimate: ModelBundle | Float64Array
) -> dict[str, float]:
    """Correlate the ranks of phrases' effects with what their removal from the scene costs.

    Args:
        removed: The removed phrases.
        estimate: Bundle with the effects to judge; or (P,) any other estimates of the costs.

    Returns:
        "rank_correlation" is over all pairs of scene and phrase. "within_scene" is the mean of each
        scene's own correlation (0 if all its estimates are equal). Both have bounds of 95 % for
        scenes that are drawn anew. "pairs" is the number of pairs.
    """
    own = effects_of(removed, estimate) if isinstance(estimate, ModelBundle) else estimate
    rows = [np.flatnonzero(removed.places == place) for place in np.unique(removed.places)]
    within = np.array(
        [
            rank_correlation(own[row], removed.costs[row])
            if len(row) > 2 and np.ptp(removed.costs[row])
            else np.nan
            for row in rows
        ]
    )
    drawn = np.random.default_rng(0)
    over_all, inside = [], []
    for _ in range(_RESAMPLED if rows else 0):
        some = drawn.integers(0, len(rows), len(rows))
        taken = np.concatenate([rows[place] for place in some])
        over_all.append(rank_correlation(own[taken], removed.costs[taken]))
        inside.append(mean_of_known(within[some]))
    return {
        "rank_correlation": rank_correlation(own, removed.costs),
        **_bounds("", over_all),
        "within_scene": mean_of_known(within),
        **_bounds("within_", inside),
        "pairs": float(len(own)),
    }


def effects_of(removed: Removals, bundle: ModelBundle) -> Float64Array:
    """Compute a bundle's effect (P,) of each removed phrase in its unchanged scene."""
    found: Float64Array = np.zeros(len(removed.places))
    for place in np.unique(removed.places).tolist():
        rows = removed.places == place
        observation = removed.observations[place]
        terms = terms_of(bundle, observation)
        evidence = channel_evidence(terms.weights, observation.activation_maps)
        found[rows] = effects(evidence, bundle.wording.supports(removed.phrases[rows]))
    return found


def without_phrase(scene: Scene, phrase: str, rng: np.random.Generator) -> Scene | None:
    """Make a phrase untrue of a scene; None: it is not true."""
    if phrase.endswith(" floor"):
        floor = phrase.removesuffix(" floor")
        others = [word for word in FLOORS if word != floor]
        return scene.with_floor(others[rng.integers(3)]) if floor == scene.floor else None
    having = objects_with(scene, phrase)
    if not having:
        return None
    for index in having:
        for kind, words in ATTRIBUTES.items():
            own = scene.objects[index].attributes[kind]
            if own in phrase.split():
                others = [word for word in words if word != own]
                chosen = others[rng.integers(len(others))]
                scene = scene.replace_object(index, **{kind: chosen})
    return scene


def mean_of_known(values: FloatArray) -> float:
    """Average the values that are not nan; nan if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _bounds(prefix: str, drawn: Sequence[float]) -> dict[str, float]:
    known = np.array(drawn)[~np.isnan(drawn)] if drawn else np.zeros(0)
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def rank_correlation(one: FloatArray, two: FloatArray) -> float:
    """Correlate ranks by Spearman; 0 if either is flat, nan of fewer than two values."""
    if len(one) < 2:
        return float("nan")
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), two.ravel()).statistic)
