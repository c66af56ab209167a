"""Localization of the key object by heatmaps, on scenes: the renderer's masks are the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from textcam_service.core.heatmap import heatmap
from textcam_service.core.types import BoolArray, Float32Array, FloatArray
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.evaluation.cases import Observation, explain_case
from textcam_service.offline.evaluation.phrases import PHRASES
from textcam_service.scenes.world import Scene, object_phrases

TOLERANCE = 4
"""Pixels by which the pointing game may miss: half a cell of a 12 x 12 map over 96 pixels."""

FIXED_THRESHOLD = 0.5
_THRESHOLDS = np.linspace(0.05, 0.95, 19)

HeatOf = Callable[[Observation], Float32Array]
ShownMap = Literal["group", "relative", "whole"]


@dataclass(frozen=True)
class LocalizationMetrics:
    """Measures of how well heatmaps find the key object, means over images.

    Attributes:
        pointing: Share of images with the heatmap's highest point on it (Zhang et al. 2018).
        energy: Share of the heat on it (Wang et al. 2020).
        iou_best: Intersection over union at the best of 19 thresholds for all images.
        iou_fixed: The same at half of the maximum.
    """

    pointing: float
    energy: float
    iou_best: float
    iou_fixed: float


def judge_localization(observations: Sequence[Observation], heat_of: HeatOf) -> LocalizationMetrics:
    """Judge heatmaps against the key object's mask."""
    pointing, energy, overlaps = [], [], []
    for observation in observations:
        heat, mask = heat_of(observation), observation.case.key_mask
        pointing.append(points_at(heat, mask))
        energy.append(float(heat[mask].sum() / heat.sum()) if heat.any() else 0.0)
        cut = heat[None] >= _THRESHOLDS[:, None, None] * max(float(heat.max()), 1e-9)
        overlaps.append((cut & mask).sum((1, 2)) / np.maximum((cut | mask).sum((1, 2)), 1))
    by_threshold = np.mean(overlaps, axis=0)
    fixed = int(np.abs(_THRESHOLDS - FIXED_THRESHOLD).argmin())
    return LocalizationMetrics(
        float(np.mean(pointing)),
        float(np.mean(energy)),
        float(by_threshold.max()),
        float(by_threshold[fixed]),
    )


def judge_groups(
    bundle: ModelBundle, observations: Sequence[Observation], shown: ShownMap = "group"
) -> dict[str, float]:
    """Measure how often a phrase's own map points at an object of which the phrase is true.

    Only phrases that are true of some object of the scene can point right or wrong.

    Args:
        bundle: Bundle that is judged.
        observations: Observations of scenes.
        shown: The group's own map; its phrase's relative map, which figures draw; or the target's
            whole map, a control.

    Returns:
        "pointing", of the groups with positive evidence; "chance", of a random point on one of
        the scene's objects; "groups", how many were judged.
    """
    hits, chances = [], []
    for observation in observations:
        scene = observation.case.scene
        assert scene is not None  # noqa: S101 - the caller chose scenes
        rationale = explain_case(bundle, observation, PHRASES)
        for phrase, group in zip(rationale.phrases, rationale.groups, strict=True):
            having = objects_with(scene, phrase.text)
            if not having or group.evidence <= 0:
                continue
            mask = np.asarray(observation.case.masks[having].any(axis=0))
            relative = group.relative_map
            assert relative is not None  # noqa: S101 - only the rest has none
            own = {"group": group.saliency_map, "relative": relative}
            heat = _stretched(own.get(shown, rationale.saliency_map), observation)
            hits.append(points_at(heat, mask))
            chances.append(len(having) / len(scene.objects))
    return {
        "pointing": float(np.mean(hits)) if hits else float("nan"),
        "chance": float(np.mean(chances)) if chances else float("nan"),
        "groups": float(len(hits)),
    }


def objects_with(scene: Scene, phrase: str) -> list[int]:
    """List the objects of which a phrase is true."""
    return [
        index
        for index, item in enumerate(scene.objects)
        if phrase in object_phrases(item.attributes)
    ]


def points_at(heat: FloatArray, mask: BoolArray) -> bool:
    """Return True if the highest point lies on the mask, or within TOLERANCE pixels of it."""
    if not heat.any():
        return False
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows, columns = np.nonzero(mask)
    away = (rows - row) ** 2 + (columns - column) ** 2
    return bool(len(rows)) and bool(away.min() <= TOLERANCE**2)


def heat_of(bundle: ModelBundle) -> HeatOf:
    """Return a function that draws the product's heatmap of the predicted class."""

    def heat(observation: Observation) -> Float32Array:
        rationale = explain_case(bundle, observation, 1)
        return _stretched(rationale.saliency_map, observation)

    return heat


def centered_gaussian(observation: Observation) -> Float32Array:
    """Draw a control: the same bump in the middle of every image, a quarter of it wide."""
    height, width = observation.case.image.height, observation.case.image.width
    y, x = np.mgrid[0:height, 0:width]
    away = ((y - height / 2) / (height / 4)) ** 2 + ((x - width / 2) / (width / 4)) ** 2
    return np.asarray(np.exp(-away / 2), np.float32)


def _stretched(saliency_map: Float32Array, observation: Observation) -> Float32Array:
    image = observation.case.image
    return heatmap(saliency_map, observation.crop, image.height, image.width)
