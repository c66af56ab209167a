"""A small real bundle, images whose answers are known beforehand, and the books on requests.

The expected logits come straight from the network's session, image by image, so an answer
that belongs to another image is noticed whatever batch it ran in.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from textcam_service.core.concepts.channel_embeddings import ChannelSettings
from textcam_service.model.bundle import ModelBundle
from textcam_service.offline.banks.build import BankSettings, build_bank
from textcam_service.offline.embedders.loading import load_embedder
from textcam_service.offline.export.from_torch.export import export_network
from textcam_service.offline.networks.loading import load_network
from textcam_service.runtime.backbone import Backbone
from textcam_service.scenes.probing import render_probing_set
from textcam_service.scenes.world import vocabulary

NAME = "scenes"
IMAGES = 120
# The same image in another batch differs by rounding; another image differs by far more.
TOLERANCE = 1e-3
_FORMATS = ({"format": "PNG"}, {"format": "JPEG", "quality": 95}, {"format": "WEBP"})


@dataclass(frozen=True)
class Sample:
    """An image file, and the logits (C,) that its answer must show."""

    encoded: bytes
    logits: np.ndarray


@dataclass(frozen=True)
class World:
    """A bundle's folder, and images with their expected answers."""

    folder: Path
    samples: tuple[Sample, ...] = field(repr=False)

    @property
    def flags(self) -> tuple[str, ...]:
        """What `textcam serve` is to be told."""
        return (
            *("--name", NAME, "--backbone", str(self.folder / "backbone")),
            *("--bank", str(self.folder / "bank"), "--session-threads", "1"),
        )

    def bundle(self) -> ModelBundle:
        """A bundle of one's own, into which faults may be put."""
        return ModelBundle.load(NAME, self.folder / "backbone", self.folder / "bank", threads=1)


def build_world(
    folder: Path, network: str = "scenes:classifier", phrases: Sequence[str] | None = None
) -> World:
    """Export a classifier of scenes, build its bank from rendered scenes, foretell answers.

    Args:
        folder: Gets the bundle.
        network: "scenes:classifier" or "scenes:biased".
        phrases: The vocabulary; None: the scenes' own.
    """
    paths = render_probing_set(folder / "probing", IMAGES)
    export_network(load_network(network), folder / "backbone")
    backbone = Backbone(folder / "backbone", threads=1)
    settings, words = BankSettings(ChannelSettings(samples=IMAGES // 8)), phrases or vocabulary()
    build_bank(backbone, load_embedder("scenes"), paths, words, folder / "bank", settings)
    samples = [_sample(backbone, path, index) for index, path in enumerate(paths)]
    logits = np.stack([sample.logits for sample in samples])
    apart = np.abs(logits[:, None] - logits).max(axis=2) + 100 * np.eye(len(samples))
    assert apart.min() > 20 * TOLERANCE, "two images are too alike for a swap to be noticed"
    return World(folder, tuple(samples))


def _sample(backbone: Backbone, path: Path, index: int) -> Sample:
    file = io.BytesIO()
    Image.open(path).save(file, **_FORMATS[index % len(_FORMATS)])
    pixels = np.asarray(Image.open(file).convert("RGB"), np.float64) / 255
    size, given = backbone.manifest.preprocessing, np.float32
    assert pixels.shape[:2] == (size.height, size.width), "no resampling stands between"
    image = ((pixels - size.mean) / size.std).transpose(2, 0, 1)[None].astype(given)
    return Sample(file.getvalue(), backbone.logits(image)[0])


class Ledger:
    """What became of each request: answered once and with its own image's logits, or failed."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.failures: Counter[str] = Counter()
        self.sent = 0
        self._samples = samples
        self._outcomes: dict[str, int] = defaultdict(int)
        self._answered = self._swapped = 0

    def send(self) -> tuple[str, Sample]:
        """Enter a new request: its id and its image, which no request near it has."""
        number = self.sent
        self.sent += 1
        return str(number), self._samples[number % len(self._samples)]

    def answered(self, request_id: str, answer: Any, echoed: str | None = None) -> None:
        """Enter an answer, of the SDK or of the contract, which echoes the id that was sent."""
        self._outcomes[request_id] += 1
        self._answered += 1
        place = int(request_id) % len(self._samples)
        echoed = answer.request_id if echoed is None else echoed
        self._swapped += not (echoed == request_id and self._tells(answer, place))

    def failed(self, request_id: str, kind: str) -> None:
        """Enter a request that was answered by an error, or that its caller gave up."""
        self._outcomes[request_id] += 1
        self.failures[kind] += 1

    def _tells(self, answer: Any, place: int) -> bool:
        """Whether an answer is that of the image in this place."""
        return tells(answer, self._samples[place])

    def settle(self) -> dict[str, int]:
        """The figures; an AssertionError where an answer is lost, duplicated or swapped."""
        unknown = [key for key in self._outcomes if int(key) >= self.sent]
        figures = {
            "requests": self.sent,
            "answered": self._answered,
            "failed": self.failures.total(),
            "lost": self.sent - len(self._outcomes),
            "duplicated": sum(self._outcomes.values()) - len(self._outcomes) + len(unknown),
            "swapped": self._swapped,
        }
        wrong = {name: figures[name] for name in ("lost", "duplicated", "swapped")}
        assert not any(wrong.values()), figures
        return figures


def tells(answer: Any, sample: Sample) -> bool:
    """Whether an answer that lists all classes is this image's, and accounts for its logit."""
    logits = np.full(len(sample.logits), np.nan)
    for prediction in answer.predictions:
        logits[prediction.class_index] = prediction.logit
    (own,) = answer.explanations
    shares = own.bias + own.gap + own.rest.evidence + sum(phrase.evidence for phrase in own.phrases)
    return bool(
        np.allclose(logits, sample.logits, rtol=0, atol=TOLERANCE)
        and abs(own.logit - sample.logits.max()) <= TOLERANCE
        and abs(shares - own.logit) <= TOLERANCE
    )
