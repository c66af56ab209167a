"""Does an explanation follow what the network computes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from textcam_service.backbone import Backbone
from textcam_service.bundle import ModelBundle
from textcam_service.core.cam import softmax
from textcam_service.core.methods import Need
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.evaluation.cases import Observation, explain_case, logits_of, observe
from textcam_service.evaluation.place import HeatOf, objects_with
from textcam_service.evaluation.words import PHRASES
from textcam_service.graphs import Graphs, write_backbone
from textcam_service.scenes.render import render
from textcam_service.scenes.world import ATTRIBUTES, FLOORS, Scene

_STEPS = 16
_BLUR = 8  # pixels


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
    if Need.HEAD not in bundle.backbone.offers:
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


def counterfactual_agreement(
    bundle: ModelBundle, observations: Sequence[Observation]
) -> dict[str, float]:
    """Rank correlation of a phrase's evidence with what its removal from the scene costs.

    The renderer gives every object of which the phrase is true other words in its place (or the
    scene another floor). A phrase that is true of nothing cannot be removed: it costs 0.
    """
    rng = np.random.default_rng(0)
    evidence: list[float] = []
    before: list[float] = []
    changed: list[Image.Image | None] = []
    classes: list[int] = []
    for observation in observations:
        assert observation.case.scene is not None  # noqa: S101 - the caller chose scenes
        rationale = explain_case(bundle, observation, PHRASES)
        for phrase in rationale.phrases:
            other = without_phrase(observation.case.scene, phrase.text, rng)
            evidence.append(phrase.evidence)
            before.append(rationale.logit)
            classes.append(observation.prediction.class_index)
            changed.append(None if other is None else Image.fromarray(render(other).image))
    after = np.array(before)
    present = [place for place, image in enumerate(changed) if image is not None]
    logits = logits_of(bundle, [image for image in changed if image is not None])
    after[present] = logits[np.arange(len(present)), np.array(classes)[present]]
    cost = np.array(before) - after
    return {
        "rank_correlation": _rank_correlation(np.array(evidence), cost),
        "rank_correlation_present": _rank_correlation(np.array(evidence)[present], cost[present]),
        "phrases": float(len(evidence)),
        "present": len(present) / max(len(evidence), 1),
    }


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
    magnitude, "words" the mean Jaccard index of the first three phrases.
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
            words.append(len(sets[0] & sets[1]) / len(either) if either else 1.0)
    magnitude = float(np.mean(np.abs(maps)))
    return {
        "map": float(np.mean(maps)),
        "map_absolute": magnitude,
        "words": float(np.mean(words)),
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
    graphs = Graphs(body, graph("head", 1.0), graph("layers", 1.0))
    write_backbone(folder / "b", graphs, linear, backbone.manifest)
    return Backbone(folder / "b", providers=(backbone.execution_provider,))


def _probabilities(
    bundle: ModelBundle, frames: Sequence[FloatArray], class_index: int
) -> FloatArray:
    images = [Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)) for frame in frames]
    return np.asarray(softmax(logits_of(bundle, images))[:, class_index])


def _rank_correlation(one: FloatArray, two: FloatArray) -> float:
    if len(one) < 2:
        return float("nan")
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), two.ravel()).statistic)
