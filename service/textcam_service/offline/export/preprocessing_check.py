"""Check of a backbone's preprocessing on photographs: a wrong one shows in what it answers.

A classifier that is fed as it was trained is sure of each photograph and answers different ones
differently. Both together are the mutual information of photograph and class, by the network's own
probabilities. Fed with another scale, mean or order of colours, it loses some of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from textcam_service.core.probability import class_probabilities
from textcam_service.core.types import Float32Array, Float64Array, FloatArray, Preprocessing
from textcam_service.errors import ProbingSetError
from textcam_service.imaging.decoding import prepare
from textcam_service.offline.dataset import ImageFolder, display_path
from textcam_service.runtime.backbone import Backbone

MAX_IMAGES = 64
FEW_IMAGES = 16
_SHOWN = 8
_BATCH = 8
_MIN_GAIN = 0.02
_IMAGENET_MEAN = (0.485, 0.456, 0.406)


class _Candidate(NamedTuple):
    options: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_CANDIDATES = (
    _Candidate(
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225", _IMAGENET_MEAN, (0.229, 0.224, 0.225)
    ),
    _Candidate("--mean 0.5 --std 0.5", (0.5,) * 3, (0.5,) * 3),
    _Candidate("--mean 0 --std 1", (0.0,) * 3, (1.0,) * 3),
    _Candidate("--mean 0 --std 1/255", (0.0,) * 3, (1 / 255,) * 3),
    _Candidate("--mean 0.485,0.456,0.406 --std 1/255", _IMAGENET_MEAN, (1 / 255,) * 3),
)


class PreprocessingCheck(NamedTuple):
    """Answers of a backbone to photographs, and the preprocessing that suits it better, if any.

    Attributes:
        probabilities: (N, C): of each photograph.
        information: Mutual information of photograph and class, nats; at most log N where classes
            exclude each other.
        better: Options of `textcam export` that give the network more of it; empty: none does.
        better_information: The most that any tried preprocessing gives, nats.
    """

    probabilities: Float64Array
    information: float
    better: str
    better_information: float


def check_preprocessing(backbone: Backbone, images: Sequence[Image.Image]) -> PreprocessingCheck:
    """Compare a backbone's preprocessing with the usual others on photographs.

    The others are ImageNet's mean and deviation, pixels of -1..1, 0..1 and 0..255, and of 0..255
    less ImageNet's mean, each with the colours in either order.

    Args:
        backbone: The backbone.
        images: N upright RGB photographs of things that its classes name.
    """
    own = backbone.manifest.preprocessing
    inputs = np.stack([prepare(image, own)[0] for image in images])
    several = backbone.manifest.multi_label
    first = _probabilities(backbone, inputs)
    found = mutual_information(first, multi_label=several)
    best, options = found, ""
    for candidate, pixels in _alternatives(inputs, own):
        information = mutual_information(_probabilities(backbone, pixels), multi_label=several)
        if information > max(best, (1 + _MIN_GAIN) * found):
            best, options = information, candidate
    return PreprocessingCheck(first, found, options, best)


def check_folder(backbone: Path, folder: Path) -> Iterator[str]:
    """Check a backbone's folder on an even sample of a folder's photographs; say what was found.

    Raises:
        ProbingSetError: There is no photograph, or none can be read.
    """
    paths = ImageFolder.find([folder])
    images = [
        *islice(ImageFolder(paths[:: -(-len(paths) // MAX_IMAGES)]).read_images(), MAX_IMAGES)
    ]
    if not images:
        raise ProbingSetError(f"none of the {len(paths)} images under {folder} can be read")
    model = Backbone(backbone)
    check = check_preprocessing(model, [image for _, image in images])
    names = model.manifest.class_names
    shown = zip(images[:_SHOWN], check.probabilities, strict=False)
    for (path, _), row in shown:
        yield f"{display_path(path)}: {names[int(row.argmax())]} {row.max():.0%}"
    sure = check.probabilities.max(axis=1).mean()
    yield f"sure of the {len(images)} photographs by {sure:.0%} on average"
    if check.better:
        yield (
            f"another preprocessing suits it better; was it trained so? With {check.better} its "
            f"answers tell these photographs apart by {check.better_information:.2f} nats, and by "
            f"{check.information:.2f} as it is"
        )
    elif len(images) < FEW_IMAGES:
        yield f"that is few: only {FEW_IMAGES} or more tell preprocessings apart"


def mutual_information(probabilities: FloatArray, *, multi_label: bool = False) -> float:
    """Compute the mutual information of N equally likely images and the class, nats.

    It is the entropy of the mean distribution less the mean of their entropies.

    Args:
        probabilities: (N, C).
        multi_label: The classes do not exclude each other: each is there or not, and the
            information of all is added.
    """
    shares = np.asarray(probabilities, np.float64)
    if multi_label:
        shares = np.stack([shares, 1 - shares], axis=-1)
    return float((_entropy(shares.mean(axis=0)) - _entropy(shares).mean(axis=0)).sum())


def _entropy(shares: Float64Array) -> Float64Array:
    return -np.asarray((shares * np.log(np.maximum(shares, 1e-300))).sum(axis=-1))


def _alternatives(inputs: Float32Array, own: Preprocessing) -> Iterator[tuple[str, Float32Array]]:
    """Convert network inputs (N, 3, h, w) to those of other preprocessings; give their options."""
    mean, std = _column(own.mean), _column(own.std)
    colours = inputs * std + mean
    for name, new_mean, new_std in _CANDIDATES:
        other = (colours - _column(new_mean)) / _column(new_std)
        if not np.allclose((new_mean, new_std), (own.mean, own.std), atol=1e-3):
            yield name, other
        turned = (colours[:, ::-1] - _column(new_mean)) / _column(new_std)
        yield f"{name}, and the other order of the colours (--channel-order)", turned


def _column(levels: Sequence[float]) -> Float32Array:
    return np.asarray(levels, np.float32)[:, None, None]


def _probabilities(backbone: Backbone, inputs: Float32Array) -> Float64Array:
    logits = [
        backbone.logits(np.ascontiguousarray(inputs[start : start + _BATCH]))
        for start in range(0, len(inputs), _BATCH)
    ]
    return class_probabilities(np.concatenate(logits), multi_label=backbone.manifest.multi_label)
