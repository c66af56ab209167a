"""A result of a job as the engine makes it, small enough to be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from textcam_service.core.methods import METHODS
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import Crop, Phrase, Rationale, SaliencyGroup
from textcam_service.serving.engine.jobs import ExplainJob
from textcam_service.serving.engine.results import ExplainResult, ImageInfo, TargetResult
from textcam_service.serving.engine.targets import ClassScores

IMAGE = ImageInfo(300, 400, "raw", Crop(0, 0, 400, 300))
SCORES = ClassScores(np.array([1.0, 3.0, 2.0], np.float32), ("bird", "cat", "dog"))


def job(**changes: Any) -> ExplainJob:
    """A job of one image of a few pixels."""
    pixels = np.zeros((IMAGE.height, IMAGE.width, 3), np.uint8)
    return replace(ExplainJob(pixels, METHODS["cam"], PhraseFilter(3)), **changes)


def rationale() -> Rationale:
    """Two phrases, each with its group, and the rest."""
    maps = np.arange(6, dtype=np.float32).reshape(2, 3)

    def group(index: int, evidence: float) -> SaliencyGroup:
        own = maps * np.float32(index + 2) / 10
        return SaliencyGroup(index, np.array([index + 1]), evidence, evidence, 0.0, own)

    return Rationale(
        logit=3.0,
        bias=0.25,
        gap=0.0,
        saliency_map=maps,
        phrases=(
            Phrase("whiskers", 4, 2.0, 0.5, 1.5, effect=1.75, probability=0.9),
            Phrase("sofa", 7, 1.0, 0.25, 0.75, effect=1.0),
        ),
        groups=(group(0, 1.5), group(1, 0.75)),
        rest=group(-1, 0.5),
    )


def result(**changes: Any) -> ExplainResult:
    """The job's result: the class "cat", explained."""
    explained = TargetResult(SCORES.of(1), None, rationale(), "a cat")
    made = ExplainResult(job(), None, IMAGE, SCORES, [explained])  # type: ignore[arg-type]
    return replace(made, **changes)
