"""What a new version of a model says of a fixed set of images, against what the served one says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from textcam.v1 import explainer_pb2 as pb

from textcam_service.core.types import Float32Array, IntArray
from textcam_service.errors import DriftRefused, QueueFull
from textcam_service.scenes.classes import CLASSES, class_scene
from textcam_service.scenes.render import render
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.engine import Engine
from textcam_service.serving.grpc.explainer.responses import tensor_message
from textcam_service.settings import ServerSettings
from textcam_service.store.models import CANARY, canary_images

_SCENES, _SEED = 16, 71
_PATIENCE_S, _PAUSE_S = 60.0, 0.1


@dataclass(frozen=True)
class Drift:
    """How two versions differ, each a mean over the images.

    Attributes:
        images: How many were explained by both.
        map_correlation: Pearson's, of the saliency maps; -1 .. 1.
        same_phrase: Part of the images whose first phrase is the same.
        same_class: Part whose most probable class is the same.
        share_difference: Half the sum of the differences of the phrases' shares of the evidence:
            0 where all are alike, 1 where no phrase is common.
    """

    images: int
    map_correlation: float
    same_phrase: float
    same_class: float
    share_difference: float

    @property
    def measures(self) -> dict[str, float]:
        """The figures by name."""
        return {key: value for key, value in asdict(self).items() if key != "images"}

    def require(self, settings: ServerSettings, name: str, version: str) -> None:
        """Hold the figures against the thresholds; one that is no number is past them.

        Args:
            settings: The thresholds, and the store.
            name: Of the model.
            version: The new one.

        Raises:
            DriftRefused: One is past its own.
        """
        past = [
            f"{measure} {self.measures[measure]:.3f}, at least {least:g} is asked"
            for measure, least in {
                "map_correlation": settings.canary_min_map_correlation,
                "same_phrase": settings.canary_min_same_phrase,
                "same_class": settings.canary_min_same_class,
            }.items()
            if not self.measures[measure] >= least
        ]
        most = settings.canary_max_share_difference
        if not self.share_difference <= most:
            past.append(f"share_difference {self.share_difference:.3f}, at most {most:g} is asked")
        if past:
            raise DriftRefused(
                f"over {self.images} images: {'; '.join(past)}; the version before stays. To take "
                f"it all the same: textcam model use {name} {version} --store {settings.store} "
                "--accept-drift"
            )


def is_guarded(settings: ServerSettings) -> bool:
    """Whether any threshold is set."""
    return (
        settings.canary_min_map_correlation > -1
        or settings.canary_min_same_phrase > 0
        or settings.canary_min_same_class > 0
        or settings.canary_max_share_difference < 1
    )


async def compare(old: Engine, new: Engine, images: Sequence[pb.ExplainRequest]) -> Drift:
    """Explain each image with both versions, in the audit lane, and measure the drift.

    Both explain the class that the old one finds most probable, where the new one knows it.
    """
    found = []
    for image in images:
        before = await _explain(old, image)
        asked = pb.ExplainRequest()
        asked.CopyFrom(image)
        name = before.explanations[0].target.class_name
        if name in new.bundle.class_names:
            asked.target.classes.classes.add(name=name)
        found.append(_differences(before, await _explain(new, asked)))
    return Drift(len(found), *(float(mean) for mean in np.mean(found, axis=0)))


def fixed_set(folder: Path) -> list[pb.ExplainRequest]:
    """The images that a bundle's folder holds for its canary; else rendered scenes."""
    requests = [
        pb.ExplainRequest(encoded=path.read_bytes()) for path in canary_images(folder / CANARY)
    ] or [pb.ExplainRequest(pixels=tensor_message(_scene(index))) for index in range(_SCENES)]
    for request in requests:
        request.include_groups = False
    return requests


def _scene(index: int) -> Any:
    scene = class_scene(np.random.default_rng([_SEED, index]), index % len(CLASSES))
    return np.asarray(render(scene).image)


async def _explain(engine: Engine, request: pb.ExplainRequest) -> pb.ExplainResponse:
    """Behind the requests of others; a full queue is waited for, not counted as a refusal."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if engine.has_room(Lane.AUDIT):
            with suppress(QueueFull):
                return await engine.explain(request, None, Lane.AUDIT)
        await asyncio.sleep(_PAUSE_S)
    return await engine.explain(request, None, Lane.AUDIT)


def _differences(old: pb.ExplainResponse, new: pb.ExplainResponse) -> tuple[float, ...]:
    before, after = old.explanations[0], new.explanations[0]
    first = [[phrase.text for phrase in own.phrases[:1]] for own in (before, after)]
    return (
        _correlation(_map(before), _map(after)),
        float(first[0] == first[1]),
        float(old.predictions[0].class_name == new.predictions[0].class_name),
        _share_difference(_shares(before), _shares(after)),
    )


def _map(explanation: pb.Explanation) -> Float32Array:
    tensor = explanation.saliency_map
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape)).astype(np.float32)


def _correlation(one: Float32Array, other: Float32Array) -> float:
    """Of maps on the finer grid of the two; a map that is flat correlates with a flat one alone."""
    size = np.maximum(one.shape, other.shape)
    flat = [_resized(each, size).ravel() for each in (one, other)]
    centred = [each - each.mean() for each in flat]
    norms = [float(np.linalg.norm(each)) for each in centred]
    if not all(norms):
        return float(norms[0] == norms[1])
    return float(centred[0] @ centred[1] / (norms[0] * norms[1]))


def _resized(values: Float32Array, size: IntArray) -> Float32Array:
    if values.shape == tuple(size):
        return values
    height, width = map(int, size)
    image = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


def _shares(explanation: pb.Explanation) -> dict[str, float]:
    """Each phrase's share of the evidence, the rest's under ""; their sizes add up to 1."""
    evidence = {phrase.text: phrase.evidence for phrase in explanation.phrases}
    evidence[""] = explanation.rest.evidence
    whole = sum(map(abs, evidence.values())) or 1.0
    return {text: value / whole for text, value in evidence.items()}


def _share_difference(one: dict[str, float], other: dict[str, float]) -> float:
    return sum(abs(one.get(text, 0.0) - other.get(text, 0.0)) for text in {*one, *other}) / 2
