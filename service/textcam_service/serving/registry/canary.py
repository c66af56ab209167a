"""Canary: agreement of a new version of a model with the served one on a fixed set of images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from textcam_service.core.agreement import (
    AgreementThresholds,
    ExplanationAgreement,
    ImageAgreement,
    compare_rationales,
    same_top,
)
from textcam_service.core.types import UInt8Array
from textcam_service.errors import DriftRefused, QueueFull
from textcam_service.scenes.classes import CLASSES, class_scene
from textcam_service.scenes.render import render
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.encoding import IdentityEncoder
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.engine.jobs import Classes, ExplainJob
from textcam_service.serving.engine.results import ExplainResult
from textcam_service.settings import ServerSettings
from textcam_service.store.manifest import CANARY
from textcam_service.store.models import canary_images

_SCENES, _SEED = 16, 71
_PATIENCE_S, _PAUSE_S = 60.0, 0.1
# Measures that a canary reports and thresholds bound.
MEASURES = ("top1", "map_correlation", "first_phrase", "share_difference")


def thresholds(settings: ServerSettings) -> AgreementThresholds:
    """Return the least agreement that a new version needs."""
    return AgreementThresholds(
        top1=settings.canary_min_top1,
        map_correlation=settings.canary_min_map_correlation,
        first_phrase=settings.canary_min_first_phrase,
        share_difference=settings.canary_max_share_difference,
    )


def is_guarded(settings: ServerSettings) -> bool:
    """Return True if any threshold is set."""
    return thresholds(settings) != AgreementThresholds(0.0, -1.0, 0.0, 1.0)


def check_drift(
    agreement: ExplanationAgreement, settings: ServerSettings, name: str, version: str
) -> None:
    """Refuse a new version that agrees too little; a measure of nan is too little.

    Args:
        agreement: Agreement of the new version with the served one.
        settings: The thresholds, and the store.
        name: Name of the model.
        version: The new version.

    Raises:
        DriftRefused: A threshold is missed.
    """
    missed = agreement.missed(thresholds(settings))
    if missed:
        raise DriftRefused(
            f"over {agreement.images} images: {'; '.join(missed)}; the version before stays. To "
            f"take it all the same: textcam model use {name} {version} --store {settings.store} "
            "--accept-drift"
        )


async def compare(
    old: Engine, new: Engine, images: Sequence[bytes | UInt8Array]
) -> ExplanationAgreement:
    """Explain each image with both versions, in the audit lane, and measure their agreement.

    Both explain the class that the old one finds most probable, if the new one knows it.
    """
    found = []
    for image in images:
        before = await _explain(old, replace(old.default_job(image), include_groups=False))
        job = replace(new.default_job(image), include_groups=False)
        name = before.explanations[0].target.class_name
        if name in new.bundle.class_names:
            job = replace(job, target=Classes((new.bundle.class_index(name, ""),)))
        found.append(_agreement(before, await _explain(new, job)))
    return ExplanationAgreement.average(found)


def comparison_images(folder: Path) -> list[bytes | UInt8Array]:
    """Return the images that a bundle's folder holds for its canary; else rendered scenes."""
    files = [path.read_bytes() for path in canary_images(folder / CANARY)]
    return [*files] if files else [_scene(index) for index in range(_SCENES)]


def _scene(index: int) -> UInt8Array:
    scene = class_scene(np.random.default_rng([_SEED, index]), index % len(CLASSES))
    return np.asarray(render(scene).image, np.uint8)


async def _explain(engine: Engine, job: ExplainJob) -> ExplainResult:
    """Explain after clients' requests; wait while the queue is full, which is no refusal."""
    encoder = IdentityEncoder()
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if engine.has_room(Lane.AUDIT):
            with suppress(QueueFull):
                return await engine.explain(job, encoder, lane=Lane.AUDIT)
        await asyncio.sleep(_PAUSE_S)
    return await engine.explain(job, encoder, lane=Lane.AUDIT)


def _agreement(old: ExplainResult, new: ExplainResult) -> ImageAgreement:
    bundles = old.bundle, new.bundle
    if bundles[0].class_names == bundles[1].class_names:
        labels = all(bundle.multi_label for bundle in bundles)
        same = same_top(old.scores.logits, new.scores.logits, multi_label=labels)
    else:
        tops = [result.scores.most_probable(1)[0].class_name for result in (old, new)]
        same = tops[0] == tops[1]
    return compare_rationales(
        old.explanations[0].rationale, new.explanations[0].rationale, top1=same
    )
