"""How closely two bundles explain alike: prediction, place and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from textcam_service.artefacts.parity import ExplanationAgreement
from textcam_service.core.types import Float32Array
from textcam_service.errors import ProbingSetError
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.evaluation.cases import Case, explain_case, observe

MIN_HELD_OUT = 50  # fewer cannot tell 98 % from less
_BATCH = 16


def compare(
    own: ModelBundle,
    other: ModelBundle,
    images: Sequence[Path],
    progress: Callable[[int], None] = lambda _: None,
) -> ExplanationAgreement:
    """How closely two bundles explain alike, each its own most probable class.

    Raises:
        ProbingSetError: Fewer than MIN_HELD_OUT images can be read.
    """
    top1, correlation, phrase = [], [], []
    for start in range(0, len(images), _BATCH):
        paths = images[start : start + _BATCH]
        cases = [Case(path.name, image) for path, image in ImageFolder(paths).read_images()]
        pairs = zip(observe(own, cases), observe(other, cases), strict=True) if cases else ()
        for pair in pairs:
            one, two = (
                explain_case(bundle, seen, 1)
                for bundle, seen in zip((own, other), pair, strict=True)
            )
            top1.append(pair[0].prediction.class_index == pair[1].prediction.class_index)
            correlation.append(_correlation(one.saliency_map, two.saliency_map))
            phrase.append([p.text for p in one.phrases] == [p.text for p in two.phrases])
        progress(len(paths))
    if len(top1) < MIN_HELD_OUT:
        raise ProbingSetError(
            f"{len(top1)} held-out images could be read, too few to judge by; give "
            f"{MIN_HELD_OUT} or more"
        )
    fifth = float(np.percentile(correlation, 5))
    same, alike, first = (float(np.mean(found)) for found in (top1, correlation, phrase))
    return ExplanationAgreement(len(top1), same, alike, fifth, first)


def _correlation(one: Float32Array, two: Float32Array) -> float:
    """Pearson's; of a map that is the same everywhere 1 if the other is equal to it, else 0."""
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return float(np.array_equal(one, two))
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])
