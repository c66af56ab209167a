"""Images with their truth: rendered scenes, or photographs with a file of true phrases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textcam_service.core.methods import CamTerms
from textcam_service.core.predictions import predictions
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import BoolArray, Crop, Float32Array, Prediction, Rationale
from textcam_service.errors import InvalidTruth, TextCamError
from textcam_service.imaging.decoding import prepare
from textcam_service.model.bundle import ModelBundle
from textcam_service.model.explainer import attribute, make_rationale
from textcam_service.offline.dataset import read_image
from textcam_service.runtime.output import BackboneOutput
from textcam_service.scenes.classes import CLASSES, Bias, class_scene, key_index
from textcam_service.scenes.render import render
from textcam_service.scenes.world import Scene, object_phrases

EVALUATION_SEED = 100
_BATCH = 32


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes:
        name: Name of the file, or the scene's number.
        source: The picture, or its path; opened when it is needed.
        class_index: The true class; None: not known.
        phrases: Phrases that are true of the image, whichever class is predicted.
        scene: The rendered scene; None: a photograph.
        masks: (K, h, w) masks of the scene's objects.
        doubtful: Phrases that may be true of the image: judged neither right nor wrong.
    """

    name: str
    source: Image.Image | Path
    class_index: int | None = None
    phrases: frozenset[str] = frozenset()
    scene: Scene | None = None
    masks: BoolArray = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    doubtful: frozenset[str] = frozenset()

    @property
    def image(self) -> Image.Image:
        """RGB.

        Raises:
            InvalidTruth: It cannot be opened.
        """
        if isinstance(self.source, Image.Image):
            return self.source
        try:
            return read_image(self.source)
        except (OSError, TextCamError) as error:
            raise InvalidTruth(f"{self.source}, named in the truth file: {error}") from error

    @property
    def key_mask(self) -> BoolArray:
        """(h, w) of the object that makes a scene one of its class."""
        assert self.scene is not None  # noqa: S101 - only scenes have masks
        assert self.class_index is not None  # noqa: S101 - and classes
        return np.asarray(self.masks[key_index(self.scene, self.class_index)])


@dataclass(frozen=True)
class Truth:
    """Cases, and what is true of classes.

    Attributes:
        cases: The images.
        class_phrases: By class: phrases that are right if the class is explained.
        class_words: By class: the words that a good rationale mentions; empty: not known.
    """

    cases: Sequence[Case]
    class_phrases: Mapping[int, frozenset[str]] = field(default_factory=dict)
    class_words: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def right(self, case: Case, class_index: int) -> frozenset[str]:
        """Return the phrases that are right for a case when a class is explained."""
        return case.phrases | self.class_phrases.get(class_index, frozenset())


@dataclass(frozen=True)
class Observation:
    """Output of a network for a case.

    Attributes:
        case: The image.
        prediction: Its most probable class.
        logits: (C,).
        activation_maps: (D, H, W).
        crop: The part of the image that the network saw.
        further: Further outputs of the backbone; see BackboneOutput.further.
    """

    case: Case
    prediction: Prediction
    logits: Float32Array
    activation_maps: Float32Array
    crop: Crop
    further: Mapping[str, Float32Array] = field(default_factory=dict)

    @property
    def output(self) -> BackboneOutput:
        """Output of the backbone for the case."""
        return BackboneOutput(self.logits, self.activation_maps, self.further)


def scene_truth(
    count: int, seed: int = EVALUATION_SEED, bias: Bias | None = None, cue: bool | None = None
) -> Truth:
    """Render held-out scenes, classes in turn; see class_scene for `bias` and `cue`."""
    cases = []
    for index in range(count):
        class_index = index % len(CLASSES)
        scene = class_scene(np.random.default_rng([seed, index]), class_index, bias, cue)
        cases.append(scene_case(str(index), scene, class_index))
    words = {index: frozenset(cls.words.values()) for index, cls in enumerate(CLASSES)}
    phrases = {index: frozenset(object_phrases(cls.words)) for index, cls in enumerate(CLASSES)}
    return Truth(cases, phrases, words)


def scene_case(name: str, scene: Scene, class_index: int | None) -> Case:
    """Render a scene as a case."""
    rendered = render(scene)
    image = Image.fromarray(rendered.image)
    return Case(name, image, class_index, frozenset(), scene, rendered.masks)


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    JSON: {"images": [{"file": "a.jpg", "class_index": 3, "phrases": ["dog"], "doubtful":
    ["wet nose"]}, ...], "class_phrases": {"3": ["dog", "animal"]}}. Files are relative to the
    truth file; class_index, phrases, doubtful and class_phrases may be left out, but not both
    phrases and class_phrases.

    Raises:
        InvalidTruth: The file does not exist, is malformed, or names no image or no phrase.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        given = {
            int(index): _phrases(phrases)
            for index, phrases in content.get("class_phrases", {}).items()
        }
        cases = [_photograph(path.parent, entry) for entry in content["images"]]
    except OSError as error:
        raise InvalidTruth(f"{path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidTruth(
            f"{path} is not a truth file ({type(error).__name__}: {error}); it must hold "
            '{"images": [{"file": ..., "phrases": [...]}], "class_phrases": {"0": [...]}}'
        ) from error
    if not cases or not (given or any(case.phrases for case in cases)):
        raise InvalidTruth(f"{path} names no image, or no true phrase")
    return Truth(cases, given)


def _photograph(folder: Path, entry: Mapping[str, Any]) -> Case:
    class_index = entry.get("class_index")
    if class_index is not None and (not isinstance(class_index, int) or class_index < 0):
        raise ValueError(f"class_index {class_index!r} is not an index")
    file = folder / entry["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there")
    doubtful = _phrases(entry.get("doubtful", []))
    phrases = _phrases(entry.get("phrases", []))
    return Case(entry["file"], file, class_index, phrases, doubtful=doubtful)


def _phrases(given: Any) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(phrase, str) for phrase in given):
        raise TypeError(f"{given!r} is not a list of phrases")
    return frozenset(given)


def observe(bundle: ModelBundle, cases: Iterable[Case]) -> list[Observation]:
    """Run cases through a bundle's backbone."""
    return [found for batch in observed(bundle, cases) for found in batch]


def observed(bundle: ModelBundle, cases: Iterable[Case]) -> Iterator[list[Observation]]:
    """Run cases batch by batch: all maps of many images would not fit in memory."""
    return (_observe_batch(bundle, batch) for batch in _batches(cases))


def logits_of(bundle: ModelBundle, images: Iterable[Image.Image]) -> Float32Array:
    """Compute the logits (N, C) of images, in batches."""
    preprocessing = bundle.backbone.manifest.preprocessing
    found: list[Float32Array] = [
        np.zeros((0, len(bundle.backbone.manifest.class_names)), np.float32)
    ]
    found += [
        bundle.backbone.run(np.stack([prepare(image, preprocessing)[0] for image in batch]))[0]
        for batch in _batches(images)
    ]
    return np.concatenate(found)


def explain_case(
    bundle: ModelBundle,
    observation: Observation,
    count: int | PhraseFilter,
    target: Prediction | None = None,
) -> Rationale:
    """Explain a case by a bundle.

    Args:
        bundle: Bundle that explains.
        observation: Output of the same backbone for the case.
        count: Maximum number of phrases, or the whole filter of phrases.
        target: Class that is explained; None: the observation's prediction.
    """
    terms = terms_of(bundle, observation, target)
    vertices = bundle.backbone.vertices(observation.output)
    target = target or observation.prediction
    phrase_filter = count if isinstance(count, PhraseFilter) else PhraseFilter(count)
    return make_rationale(bundle, observation.output, terms, target, None, phrase_filter, vertices)


def terms_of(
    bundle: ModelBundle, observation: Observation, target: Prediction | None = None
) -> CamTerms:
    """Run the bundle's method on a case; arguments as of explain_case."""
    image, _ = prepare(observation.case.image, bundle.backbone.manifest.preprocessing)
    return attribute(bundle, observation.output, image, target or observation.prediction, None)


def predict(
    bundle: ModelBundle, logits: Float32Array, class_index: int | None = None
) -> Prediction:
    """Return a class's prediction from an image's logits (C,); None: the most probable one."""
    index = int(logits.argmax()) if class_index is None else class_index
    return predictions(logits, bundle.class_names, [index], multi_label=bundle.multi_label)[0]


def _observe_batch(bundle: ModelBundle, cases: Sequence[Case]) -> list[Observation]:
    prepared = [prepare(case.image, bundle.backbone.manifest.preprocessing) for case in cases]
    seen = bundle.backbone.forward(np.stack([pixels for pixels, _ in prepared]))
    return [
        Observation(
            case,
            predict(bundle, own.logits),
            own.logits,
            np.asarray(own.activation_maps),
            bundle.backbone.on_grid(crop),
            {name: np.asarray(value) for name, value in own.further.items()},
        )
        for case, own, (_, crop) in zip(cases, seen, prepared, strict=True)
    ]


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
