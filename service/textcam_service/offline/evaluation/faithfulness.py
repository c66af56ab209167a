"""Does an explanation follow what the network computes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from textcam_service.artefacts.backbone import BackboneGraphs, write_backbone
from textcam_service.core.cam import channel_evidence
from textcam_service.core.concepts.supports import effects
from textcam_service.core.methods import Capability
from textcam_service.core.probability import softmax
from textcam_service.core.types import Float32Array, Float64Array, FloatArray, IntArray
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import (
    Observation,
    Truth,
    explain_case,
    logits_of,
    observe,
    terms_of,
)
from textcam_service.offline.evaluation.localization import HeatOf, objects_with
from textcam_service.offline.evaluation.phrases import PHRASES
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.render import render
from textcam_service.scenes.world import ATTRIBUTES, FLOORS, Scene

_STEPS = 16
_BLUR = 8  # pixels
_REMOVED = 4  # phrases of the class, and as many others, that are taken out of a scene
_RESAMPLED = 200


def perturbation(
    bundle: ModelBundle, observations: Sequence[Observation], heat_of: HeatOf
) -> dict[str, float]:
    """Deletion and insertion (Petsiuk et al. 2018), drop and increase (Chattopadhay et al. 2018).

    Deletion greys the hottest pixels first, insertion brings them back to a blurred image; both
    are areas under the predicted class's probability over 16 steps. Drop is by how much the
    probability falls, in shares of it, when only the heat's pixels stay; increase, how often it
    rises. Differences under about 0.02 are noise.
    """
    areas, drops, rises = [], [], []
    ties = np.random.default_rng(0)
    for observation in observations:
        heat = heat_of(observation)
        pixels = np.asarray(observation.case.image, np.float32)
        soft = np.asarray(
            observation.case.image.filter(ImageFilter.GaussianBlur(_BLUR)), np.float32
        )
        # Ties, as of all the pixels without heat, go by chance, not from the top down.
        order = np.lexsort((ties.random(heat.size), -heat.ravel()))
        rank = np.empty(heat.size)
        rank[order] = np.arange(heat.size) / heat.size
        shares = np.linspace(0, 1, _STEPS + 1)
        taken = rank.reshape(heat.shape)[None, :, :, None] < shares[:, None, None, None]
        kept = heat[:, :, None] * pixels + (1 - heat[:, :, None]) * pixels.mean((0, 1))
        frames = [
            *np.where(taken, pixels.mean((0, 1)), pixels[None]),
            *np.where(taken, pixels[None], soft[None]),
            kept,
        ]
        probability = _probabilities(bundle, frames, observation.prediction.class_index)
        deletion, insertion = probability[: _STEPS + 1], probability[_STEPS + 1 : -1]
        areas.append([((c[1:] + c[:-1]) / 2).mean() for c in (deletion, insertion)])
        before, after = observation.prediction.probability, probability[-1]
        drops.append(max(before - after, 0) / before)
        rises.append(after > before)
    deletion_area, insertion_area = np.mean(areas, axis=0).tolist()
    return {
        "deletion_auc": deletion_area,
        "insertion_auc": insertion_area,
        "average_drop": float(np.mean(drops)),
        "increase": float(np.mean(rises)),
    }


def channel_ablation(bundle: ModelBundle, observations: Sequence[Observation]) -> float:
    """Largest error of "without a group's channels the logit falls by exactly its evidence".

    Relative to the largest logit. Rounding for a linear head and CAM; elsewhere, by how much
    evidence misses what the channels do. nan where the head cannot be run by itself.
    """
    if Capability.HEAD not in bundle.backbone.capabilities:
        return float("nan")
    worst, largest = 0.0, 1e-9
    for observation in observations:
        index = observation.prediction.class_index
        rationale = explain_case(bundle, observation, PHRASES)
        for group in rationale.groups:
            maps = observation.activation_maps.copy()
            maps[group.channel_ids] = 0
            without = float(bundle.backbone.head_logits(maps[None], observation.seen)[0, index])
            worst = max(worst, abs(rationale.logit - without - group.evidence))
        largest = max(largest, abs(rationale.logit))
    return worst / largest


@dataclass(frozen=True)
class Removals:
    """Phrases that are true of scenes, each taken out of its scene.

    Attributes:
        observations: Of the scenes as they are.
        places: (P,) whose scene each is of.
        phrases: (P,) places in the vocabulary.
        costs: (P,) what its removal takes from the predicted class's logit.
    """

    observations: Sequence[Observation]
    places: IntArray
    phrases: IntArray
    costs: Float64Array


def removals(bundle: ModelBundle, observations: Sequence[Observation], truth: Truth) -> Removals:
    """Take phrases out of scenes: the class's own, and as many others that are true of the scene.

    The renderer gives every object of which the phrase is true other words in its place (or the
    scene another floor). At most four of each kind are drawn from the vocabulary.
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
    """Rank correlation of phrases' effects with what their removal from the scene costs.

    Args:
        removed: What was removed.
        estimate: Whose effects are judged; or (P,) any other estimates of the costs.

    Returns:
        "rank_correlation" over all pairs of scene and phrase, "within_scene" the mean of each
        scene's own (0 where all its estimates are equal), both with bounds of 95 % when the scenes
        are drawn anew; "pairs", how many.
    """
    own = effects_of(removed, estimate) if isinstance(estimate, ModelBundle) else estimate
    rows = [np.flatnonzero(removed.places == place) for place in np.unique(removed.places)]
    within = np.array(
        [
            _rank_correlation(own[row], removed.costs[row])
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
        over_all.append(_rank_correlation(own[taken], removed.costs[taken]))
        inside.append(_mean(within[some]))
    return {
        "rank_correlation": _rank_correlation(own, removed.costs),
        **_bounds("", over_all),
        "within_scene": _mean(within),
        **_bounds("within_", inside),
        "pairs": float(len(own)),
    }


def effects_of(removed: Removals, bundle: ModelBundle) -> Float64Array:
    """A bundle's effect (P,) of each removed phrase in its scene as it was."""
    found: Float64Array = np.zeros(len(removed.places))
    for place in np.unique(removed.places).tolist():
        rows = removed.places == place
        observation = removed.observations[place]
        terms = terms_of(bundle, observation)
        evidence = channel_evidence(terms.weights, observation.activation_maps)
        found[rows] = effects(evidence, bundle.wording.supports(removed.phrases[rows]))
    return found


def without_phrase(scene: Scene, phrase: str, rng: np.random.Generator) -> Scene | None:
    """The scene with a phrase made untrue; None: it is not true."""
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


def randomisation(
    bundle: ModelBundle, observations: Sequence[Observation]
) -> dict[str, dict[str, float]]:
    """How alike explanations stay when parameters are randomised (Adebayo et al. 2018).

    Cumulative: the head, then the later half of the layers' kernels, then all of them. "map" is
    the mean rank correlation of saliency maps of the same class, "map_absolute" the mean of its
    magnitude, "words" the mean Jaccard index of the first three phrases, of images of which
    either says something.
    """
    found = {}
    for name, share in (("head", 0.0), ("half of the layers", 0.5), ("all layers", 1.0)):
        with TemporaryDirectory() as folder:
            other = replace(bundle, backbone=_randomised(bundle.backbone, share, Path(folder)))
            found[name] = _likeness(bundle, other, observations)
    return found


def _likeness(
    bundle: ModelBundle, other: ModelBundle, observations: Sequence[Observation]
) -> dict[str, float]:
    maps, words = [], []
    for start in range(0, len(observations), 32):
        part = observations[start : start + 32]
        own = observe(other, [observation.case for observation in part])
        for observation, observed in zip(part, own, strict=True):
            index = observation.prediction.class_index
            before = explain_case(bundle, observation, 3)
            moved = replace(observation.prediction, logit=float(observed.logits[index]))
            after = explain_case(other, observed, 3, moved)
            maps.append(_rank_correlation(before.saliency_map, after.saliency_map))
            sets = [{phrase.text for phrase in r.phrases} for r in (before, after)]
            either = sets[0] | sets[1]
            words += [len(sets[0] & sets[1]) / len(either)] if either else []
    magnitude = float(np.mean(np.abs(maps)))
    return {
        "map": float(np.mean(maps)),
        "map_absolute": magnitude,
        "words": _mean(np.array(words)),
    }


def _randomised(backbone: Backbone, share: float, folder: Path) -> Backbone:
    """The backbone with a random head, and the last `share` of its weights random too."""
    rng = np.random.default_rng(0)

    def drawn(values: FloatArray) -> Float32Array:
        return rng.normal(values.mean(), values.std(), values.shape).astype(np.float32)

    def graph(name: str, share: float) -> bytes | None:
        file = backbone.folder / f"{name}.onnx"
        if not file.is_file():
            return None
        model = onnx.load(str(file))
        kernels = [
            tensor
            for tensor in model.graph.initializer
            if len(tensor.dims) >= 2 and tensor.data_type == onnx.TensorProto.FLOAT
        ]
        for tensor in kernels[int(len(kernels) * (1 - share)) :]:
            values = drawn(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return bytes(model.SerializeToString())

    linear = None
    if backbone.is_linear:
        linear = drawn(backbone.head_weights), drawn(backbone.head_bias)
    body = graph("backbone", share)
    assert body is not None  # noqa: S101 - every backbone has one
    graphs = BackboneGraphs(body, graph("head", 1.0), graph("layers", 1.0))
    write_backbone(folder / "b", graphs, linear, backbone.manifest)
    return Backbone(folder / "b", providers=(backbone.execution_provider,))


def _probabilities(
    bundle: ModelBundle, frames: Sequence[FloatArray], class_index: int
) -> FloatArray:
    images = [Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)) for frame in frames]
    return np.asarray(softmax(logits_of(bundle, images))[:, class_index])


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _bounds(prefix: str, drawn: Sequence[float]) -> dict[str, float]:
    known = np.array(drawn)[~np.isnan(drawn)] if drawn else np.zeros(0)
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def _rank_correlation(one: FloatArray, two: FloatArray) -> float:
    if len(one) < 2:
        return float("nan")
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), two.ravel()).statistic)
