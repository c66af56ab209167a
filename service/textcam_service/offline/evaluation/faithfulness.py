"""Faithfulness: how far an explanation follows what the network computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image, ImageFilter

from textcam_service.artefacts.backbone import BackboneGraphs, write_backbone
from textcam_service.core.methods import Capability
from textcam_service.core.probability import class_probabilities
from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import (
    Observation,
    explain_case,
    logits_of,
    observe,
)
from textcam_service.offline.evaluation.counterfactuals import mean_of_known, rank_correlation
from textcam_service.offline.evaluation.localization import HeatOf
from textcam_service.offline.evaluation.phrases import PHRASES
from textcam_service.runtime.backbone import Backbone

_STEPS = 16
_BLUR = 8  # pixels


def perturbation(
    bundle: ModelBundle, observations: Sequence[Observation], heat_of: HeatOf
) -> dict[str, float]:
    """Measure deletion, insertion (Petsiuk 2018), drop and increase (Chattopadhay 2018).

    Deletion greys the hottest pixels first, insertion brings them back to a blurred image; both
    are areas under the predicted class's probability over 16 steps. Drop is the relative fall of
    the probability when only the heat's pixels stay; increase is how often it rises instead.
    Differences under about 0.02 are noise.
    """
    areas, drops, rises = [], [], []
    ties = np.random.default_rng(0)
    for observation in observations:
        heat = heat_of(observation)
        pixels = np.asarray(observation.case.image, np.float32)
        soft = np.asarray(
            observation.case.image.filter(ImageFilter.GaussianBlur(_BLUR)), np.float32
        )
        # Ties, such as all pixels without heat, are ordered at random, not from the top down.
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
    """Measure the largest error of "without a group's channels the logit falls by its evidence".

    The error is relative to the largest logit. For a linear head and CAM it is rounding; elsewhere
    it is how far the evidence misses the channels' effect. nan if the head cannot run separately.
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
            without = float(bundle.backbone.head_logits(maps[None], observation.output)[0, index])
            worst = max(worst, abs(rationale.logit - without - group.evidence))
        largest = max(largest, abs(rationale.logit))
    return worst / largest


def randomisation(
    bundle: ModelBundle, observations: Sequence[Observation]
) -> dict[str, dict[str, float]]:
    """Measure how alike explanations stay when parameters are randomised (Adebayo et al. 2018).

    Cumulative: the head, then the later half of the layers' kernels, then all of them. "map" is the
    mean rank correlation of saliency maps of the same class, and "map_absolute" the mean of its
    magnitude. "words" is the mean Jaccard index of the first three phrases, over images for which
    either has phrases.
    """
    found = {}
    for name, share in (("head", 0.0), ("half of the layers", 0.5), ("all layers", 1.0)):
        with TemporaryDirectory() as folder:
            other = replace(bundle, backbone=_randomised(bundle.backbone, share, Path(folder)))
            found[name] = _similarity(bundle, other, observations)
    return found


def _similarity(
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
            maps.append(rank_correlation(before.saliency_map, after.saliency_map))
            sets = [{phrase.text for phrase in r.phrases} for r in (before, after)]
            either = sets[0] | sets[1]
            words += [len(sets[0] & sets[1]) / len(either)] if either else []
    magnitude = float(np.mean(np.abs(maps)))
    return {
        "map": float(np.mean(maps)),
        "map_absolute": magnitude,
        "words": mean_of_known(np.array(words)),
    }


def _randomised(backbone: Backbone, share: float, folder: Path) -> Backbone:
    """Write the backbone with a random head, and random weights in the last `share` of it."""
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
    logits = logits_of(bundle, images)
    return class_probabilities(logits, multi_label=bundle.multi_label)[:, class_index]
