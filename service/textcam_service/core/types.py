"""Value types of core.

Letters in shapes: D channels, H x W map, C classes, E embedding, V phrases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
FloatArray: TypeAlias = NDArray[np.floating]
Int8Array: TypeAlias = NDArray[np.int8]
UInt8Array: TypeAlias = NDArray[np.uint8]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

Interpolation = Literal["bilinear", "bicubic", "lanczos"]
CropMode = Literal["center", "squash", "border"]

PHRASE_KINDS = (
    "thing", "part", "material", "texture", "colour", "shape", "scene", "category",
)  # fmt: skip
"""Kinds of things that a phrase names; "" where the vocabulary names none."""


@dataclass(frozen=True)
class Preprocessing:
    """Conversion of pixels to the network's input: resize, centre crop, normalise.

    Attributes:
        resize: Length of a side after resizing, pixels. Which side: see crop_mode. Where it is
            less than the crop's, the places beside the image are black, or as "border" says.
        height: Height of the centre crop, pixels.
        width: Width of the centre crop, pixels.
        interpolation: Filter of the antialiased resize.
        mean: Per-channel (R, G, B) mean of pixels scaled to 0..1.
        std: Per-channel standard deviation, same scale.
        crop_mode: Mode under timm's name. "center": the shorter side is resized to `resize`, the
            other in proportion. "squash": both sides are, so proportions are lost; if the crop is
            not square, the side along the crop's longer one is, and the other follows the crop's
            proportions. "border": the image is resized in proportion to fit into the size of
            "squash", and the rest of the crop has the colour `mean`.

    Raises:
        ValueError: A word is not known, or a size, mean or deviation is out of range.
    """

    resize: int
    height: int
    width: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: CropMode = "center"

    def __post_init__(self) -> None:
        for what, known in {"interpolation": Interpolation, "crop_mode": CropMode}.items():
            word = getattr(self, what)
            if word not in get_args(known):
                raise ValueError(f"{what} {word!r} is not one of {', '.join(get_args(known))}")
        for what in ("resize", "height", "width"):
            size = getattr(self, what)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{what} {size!r} is not a positive whole number of pixels")
        if not _three_numbers(self.mean):
            raise ValueError(f"mean {self.mean!r} is not three finite numbers (R, G, B)")
        if not _three_numbers(self.std) or min(self.std) <= 0:
            raise ValueError(f"std {self.std!r} is not three finite numbers above 0 (R, G, B)")

    def identity(self) -> dict[str, Any]:
        """Return the fields that enter digests; `crop_mode` is left out at its default."""
        found = asdict(self)
        if self.crop_mode == "center":
            del found["crop_mode"]
        return found


def _three_numbers(values: Any) -> bool:
    return (
        isinstance(values, (tuple, list))
        and len(values) == 3
        and all(isinstance(value, (int, float)) and np.isfinite(value) for value in values)
    )


@dataclass(frozen=True)
class Crop:
    """Rectangle that the network sees, in image pixels; it may reach beyond the image.

    Attributes:
        left: Left edge.
        top: Upper edge.
        width: Width of the rectangle.
        height: Height of the rectangle.
        shift_x: Offset of the maps' cells to the right of an even grid over it.
        shift_y: Offset of the cells below that grid.
    """

    left: float
    top: float
    width: float
    height: float
    shift_x: float = 0.0
    shift_y: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """Prediction of one class; its probability is by core.probability.class_probabilities."""

    class_index: int
    class_name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Phrase:
    """Chosen phrase.

    Attributes:
        text: The phrase.
        vocabulary_index: Its place in the vocabulary.
        score: The score that it was chosen by, > 0; see Choice.scores.
        similarity: Cosine of the evidence with it; see Choice.similarities.
        evidence: Its share: the signed evidence of its group's channels, in logit units; see
            Rationale.in_logit_units.
        effect: The evidence of all channels that support it, whichever group they are in. Effects
            overlap, so their sum has no meaning.
        probability: Probability that it is true of what the network saw, 0..1; None: the bank has
            no calibration.
        kind: One of PHRASE_KINDS, or "".
    """

    text: str
    vocabulary_index: int
    score: float
    similarity: float
    evidence: float
    effect: float = 0.0
    probability: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class SaliencyGroup:
    """Group of channels with their map.

    Attributes:
        phrase_index: Place of the group's phrase in the rationale; -1 for the rest.
        channel_ids: Ascending channel indices.
        evidence: Sum of the channels' evidence, logit units; see Rationale.in_logit_units.
        evidence_for: Positive part of the evidence.
        evidence_against: Negative part (<= 0).
        saliency_map: (H, W), in the evidence's units; its mean is `evidence`.
        relative_map: (H, W), the part that is specific to the phrase, see
            core.concepts.supports.contrasts; None for the rest.
    """

    phrase_index: int
    channel_ids: IntArray
    evidence: float
    evidence_for: float
    evidence_against: float
    saliency_map: Float32Array
    relative_map: Float32Array | None = None


@dataclass(frozen=True)
class Rationale:
    """Explanation of one target: phrases, groups of channels and maps.

    `bias + gap + sum of groups' evidence + rest.evidence = logit`, always. The groups' maps and the
    rest's add up to `saliency_map`, and its mean to their evidence, where the method's map is the
    sum of its channels' terms. Else (see contract, Explanation.saliency_map) the groups' maps are
    sums of the terms, and the whole map differs from their sum.

    Attributes:
        logit: The value that is explained: a logit, or a difference of two.
        bias: Bias of the linear head, which no channel accounts for; 0 with other heads.
        gap: logit - bias - all evidence: the part that the method does not account for. 0, but
            for rounding, where the method is complete; without meaning where evidence is not in
            logit units.
        saliency_map: (H, W); its mean is `logit - bias` where the method is complete.
        phrases: Best first; may be empty.
        groups: One per phrase, in the phrases' order.
        rest: The channels that support none of the phrases.
        in_logit_units: Maps and evidence are amounts of the logit; else they are on the method's
            own scale.
        channel_evidence: (D,) of each channel; its sum is `logit - bias - gap`.
    """

    logit: float
    bias: float
    gap: float
    saliency_map: Float32Array
    phrases: tuple[Phrase, ...]
    groups: tuple[SaliencyGroup, ...]
    rest: SaliencyGroup
    in_logit_units: bool = True
    channel_evidence: Float64Array = field(default_factory=lambda: np.zeros(0))
