"""Agreement of two bundles on a set of images: class, saliency map and first phrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textcam_service.core.agreement import (
    ExplanationAgreement,
    ImageAgreement,
    compare_rationales,
    same_top,
)
from textcam_service.errors import ProbingSetError
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.evaluation.cases import (
    Case,
    Observation,
    explain_case,
    observe,
    predict,
)

MIN_HELD_OUT = 50  # fewer cannot distinguish 98 % from less
_BATCH = 16


def compare(
    own: ModelBundle,
    other: ModelBundle,
    images: Sequence[Path],
    progress: Callable[[int], None] = lambda _: None,
) -> ExplanationAgreement:
    """Measure how alike two bundles explain images, each its own most probable class.

    If the classes do not exclude each other, both explain the label that the first finds highest.
    Only the first phrase of an image is chosen: the evidence of all others counts as the rest's.

    Raises:
        ProbingSetError: Fewer than MIN_HELD_OUT images can be read.
    """
    found: list[ImageAgreement] = []
    for start in range(0, len(images), _BATCH):
        paths = images[start : start + _BATCH]
        cases = [Case(path.name, image) for path, image in ImageFolder(paths).read_images()]
        pairs = zip(observe(own, cases), observe(other, cases), strict=True) if cases else ()
        found += [_compare_image(own, other, *pair) for pair in pairs]
        progress(len(paths))
    if len(found) < MIN_HELD_OUT:
        raise ProbingSetError(
            f"{len(found)} held-out images could be read, too few to judge by; give "
            f"{MIN_HELD_OUT} or more"
        )
    return ExplanationAgreement.average(found)


def _compare_image(
    own: ModelBundle, other: ModelBundle, seen: Observation, again: Observation
) -> ImageAgreement:
    target = again.prediction
    if own.multi_label:
        target = predict(other, again.logits, seen.prediction.class_index)
    same = same_top(seen.logits, again.logits, multi_label=own.multi_label)
    one, two = explain_case(own, seen, 1), explain_case(other, again, 1, target)
    return compare_rationales(one, two, top1=same)
