"""Measures of pseudo-masks, on scenes: the renderer's masks are the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from textcam_service.core.types import BoolArray, Float32Array, UInt8Array
from textcam_service.offline.evaluation.cases import Observation

MaskOf = Callable[[Float32Array, UInt8Array], BoolArray]
"""Function of a heatmap (h, w), 0..1, and its image (h, w, 3) to a mask (h, w)."""


@dataclass(frozen=True)
class MaskMetrics:
    """Measures of how well masks cover key objects.

    Attributes:
        iou: Intersection over union, mean over images ("mIoU").
        iou_median: Its median.
        found: Share of images with an intersection over union of at least 0.5.
        covered: Share of the object that is in the mask, mean.
        precise: Share of the mask that is on the object, mean; 0 of an empty mask.
    """

    iou: float
    iou_median: float
    found: float
    covered: float
    precise: float


def judge_masks(
    observations: Sequence[Observation], heats: Sequence[Float32Array], mask_of: MaskOf
) -> MaskMetrics:
    """Judge the masks that are cut out of heatmaps by the key objects' own.

    Args:
        observations: Observations of scenes; scenes with a wholly hidden key object are skipped.
        heats: Heatmap (h, w) of each observation.
        mask_of: Cuts a mask out of a heatmap.
    """
    rows = []
    for observation, heat in zip(observations, heats, strict=True):
        truth = observation.case.key_mask
        if not truth.any():
            continue
        mask = mask_of(heat, np.asarray(observation.case.image))
        both = (mask & truth).sum()
        rows.append((both / (mask | truth).sum(), both / truth.sum(), both / max(mask.sum(), 1)))
    overlaps, covered, precise = np.array(rows).T
    return MaskMetrics(
        float(overlaps.mean()),
        float(np.median(overlaps)),
        float((overlaps >= 0.5).mean()),
        float(covered.mean()),
        float(precise.mean()),
    )
