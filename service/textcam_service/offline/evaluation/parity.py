"""Agreement of two bundles on a set of images: class, saliency map and first phrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textcam_service.core.agreement import (
    ExplanationAgreement,
    ImageAgreement,
    compare_rationales,
)
from textcam_service.errors import ProbingSetError
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.dataset import ImageFolder
from textcam_service.offline.evaluation.cases import Case, explain_case, observe

MIN_HELD_OUT = 50  # fewer cannot distinguish 98 % from less
_BATCH = 16


def compare(
    own: ModelBundle,
    other: ModelBundle,
    images: Sequence[Path],
    progress: Callable[[int], None] = lambda _: None,
) -> ExplanationAgreement:
    """Measure how alike two bundles explain images, each its own most probable class.

    Only the first phrase of an image is chosen: the evidence of all others counts as the rest's.

    Raises:
        ProbingSetError: Fewer than MIN_HELD_OUT images can be read.
    """
    found: list[ImageAgreement] = []
    for start in range(0, len(images), _BATCH):
        paths = images[start : start + _BATCH]
        cases = [Case(path.name, image) for path, image in ImageFolder(paths).read_images()]
        pairs = zip(observe(own, cases), observe(other, cases), strict=True) if cases else ()
        for pair in pairs:
            one, two = (
                explain_case(bundle, seen, 1)
                for bundle, seen in zip((own, other), pair, strict=True)
            )
            classes = [seen.prediction.class_index for seen in pair]
            found.append(compare_rationales(one, two, top1=classes[0] == classes[1]))
        progress(len(paths))
    if len(found) < MIN_HELD_OUT:
        raise ProbingSetError(
            f"{len(found)} held-out images could be read, too few to judge by; give "
            f"{MIN_HELD_OUT} or more"
        )
    return ExplanationAgreement.average(found)
