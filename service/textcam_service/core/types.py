"""The values that the mathematics works on.

Letters in shapes: D channels, H x W map, C classes, E embedding, V phrases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
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
WordingKind = Literal["supports", "embeddings"]

PHRASE_KINDS = (
    "thing", "part", "material", "texture", "colour", "shape", "scene", "category",
)  # fmt: skip
"""What a phrase may name; "" where the vocabulary does not say."""


@dataclass(frozen=True)
class Preprocessing:
    """From pixels to the network's input: resize, centre crop, normalise.

    Attributes:
        resize: Length of a side after resizing, pixels; covers the crop. Which side: see crop_mode.
        height: Height of the centre crop, pixels.
        width: Width of the centre crop, pixels.
        interpolation: Filter of the antialiased resize.
        mean: Per-channel (R, G, B) mean of pixels scaled to 0..1.
        std: Per-channel standard deviation, same scale.
        crop_mode: As timm names them. "center": the shorter side is resized to `resize`, and the
            other in proportion. "squash": both are, so proportions are lost; of a crop that is no
            square, the side along its longer one, and the other in the crop's proportions.
            "border": the image is resized in proportion to fit into what "squash" resizes it to,
            and the crop's places beside it have the colour `mean`.

    Raises:
        ValueError: A word is not known, or a size, mean or deviation is none.
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
                raise ValueError(f"{what} {size!r} is no positive whole number of pixels")
        if not _three_numbers(self.mean):
            raise ValueError(f"mean {self.mean!r} is not three finite numbers (R, G, B)")
        if not _three_numbers(self.std) or min(self.std) <= 0:
            raise ValueError(f"std {self.std!r} is not three finite numbers above 0 (R, G, B)")

    def identity(self) -> dict[str, Any]:
        """What enters digests: `crop_mode` where it is another than it always was."""
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
    """The rectangle that the network sees, in image pixels; it may reach beyond the image.

    Attributes:
        left: Of the rectangle.
        top: Of the rectangle.
        width: Of the rectangle.
        height: Of the rectangle.
        shift_x: By how much the maps' cells lie right of an even grid over it.
        shift_y: By how much they lie below it.
    """

    left: float
    top: float
    width: float
    height: float
    shift_x: float = 0.0
    shift_y: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """One class with the model's opinion of it; probability is a softmax over all classes."""

    class_index: int
    class_name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Phrase:
    """A chosen phrase.

    Attributes:
        text: The phrase.
        vocabulary_index: Its place in the vocabulary.
        score: What it was chosen by, > 0; see Choice.scores.
        similarity: Cosine of the evidence with it; see Choice.similarities.
        evidence: Its share: the signed evidence of its group's channels, logit units; see
            Rationale.in_logit_units.
        effect: The evidence of all channels that support it, whichever group they are in. Effects
            overlap, and add up to nothing.
        probability: That it is true of what the network saw, 0..1; None: the bank has no
            calibration.
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
    """Channels that stand together, with their map.

    Attributes:
        phrase_index: Place of the group's phrase in the rationale; -1 for the rest.
        channel_ids: Ascending channel indices.
        evidence: Sum of the channels' evidence, logit units; see Rationale.in_logit_units.
        evidence_for: Positive part of the evidence.
        evidence_against: Negative part (<= 0).
        saliency_map: (H, W), in the evidence's units; its mean is `evidence`.
        relative_map: (H, W), what the phrase has of its own, see core.supports.contrasts;
            None for the rest.
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
    """What the classifier saw, for one target.

    `bias + gap + sum of groups' evidence + rest.evidence = logit`, always. The groups' maps and the
    rest's add up to `saliency_map`, and its mean to their evidence, where the method's map is the
    sum of its channels' terms. Else (see contract, Explanation.saliency_map) the groups' maps are
    of the terms, and the whole map differs from their sum.

    Attributes:
        logit: What is explained: a logit, or a difference of two.
        bias: The linear head's, which no channel accounts for; 0 with other heads.
        gap: logit - bias - all evidence. What the method does not account for; 0, but for
            rounding, where it is exact; without meaning where evidence is not in logit units.
        saliency_map: (H, W); its mean is `logit - bias` where the method is exact.
        phrases: Best said first; none is an answer.
        groups: One per phrase, in the phrases' order.
        rest: The channels that support none of the phrases.
        in_logit_units: Whether maps and evidence are amounts of the logit; else they are on the
            method's own scale.
    """

    logit: float
    bias: float
    gap: float
    saliency_map: Float32Array
    phrases: tuple[Phrase, ...]
    groups: tuple[SaliencyGroup, ...]
    rest: SaliencyGroup
    in_logit_units: bool = True


@dataclass(frozen=True)
class Choice:
    """K chosen phrases.

    Attributes:
        indices: (K,) places in the vocabulary, best said first.
        scores: (K,) what they were chosen by, > 0: by supports, how far the evidence speaks for
            the phrase, in deviations of the probing images' own; by embeddings, the coefficient
            beta of the sparse approximation.
        similarities: (K,) cosines of the evidence with the phrase's supports, or of the evidence
            embedding with the phrase's.
        probabilities: (K,) that they are true of what the network saw; None: not calibrated.
    """

    indices: IntArray
    scores: Float64Array
    similarities: Float64Array
    probabilities: Float64Array | None = None


@dataclass(frozen=True)
class Wish:
    """What one request wants of the words.

    Attributes:
        count: At most so many phrases, >= 1.
        min_probability: Say nothing less probable; None: the bank's threshold.
        kinds: Say these kinds alone; empty: all.
        repeat_class: Whether phrases that only repeat the class's name may be said; None: as the
            settings say.
    """

    count: int
    min_probability: float | None = None
    kinds: frozenset[str] = frozenset()
    repeat_class: bool | None = None


@dataclass(frozen=True)
class RationaleSettings:
    """How phrases are chosen and channels assigned to them.

    By supports (core.choice, core.supports), where the bank has them, with the first seven; by
    embeddings (core.phrases, core.groups), which is the paper's way, with the others.

    Attributes:
        wording: By what phrases are chosen: "supports" or "embeddings". A bank without supports
            goes by embeddings.
        min_probability: Below it a phrase is not said; 0 to 1.
        min_odds: By how much the evidence itself must multiply a phrase's odds; >= 1.
        min_new: From where on a phrase is something new: its score that nothing said explains, over
            the root of its score, in deviations; >= 0.
        min_more: How much of a score what is said must leave unexplained for the phrase to be said
            too, in deviations; >= 0.
        join: Support from where on a channel joins a phrase; -1 to 1.
        repeat_class: Whether phrases are said that only repeat the explained class's name.
        sparsity: lambda_1, the price of a phrase's coefficient; >= 0.
        decorrelation: lambda_2, the price of choosing phrases that resemble each other; >= 0.
        max_similarity: Cosine above which a phrase counts as a near-duplicate of a chosen one;
            0 to 1.
        candidates: Phrases are chosen among so many of the most similar ones (or as many as
            are wanted, if more); >= 1.
        root: Whether evidence enters the evidence embedding by its signed square root, which
            damps single channels. Shares of the logit never do.
        prior: Weight of the probing set's mean embedding added to the unit evidence embedding;
            >= 0.
        min_support: Cosine between channel and phrase below which the channel goes to the rest;
            -1 to 1.
    """

    wording: WordingKind = "supports"
    min_probability: float = 0.74
    min_odds: float = 1.3
    min_new: float = 0.38
    min_more: float = 0.45
    join: float = 0.1
    repeat_class: bool = False
    sparsity: float = 0.0
    decorrelation: float = 0.0
    max_similarity: float = 0.8
    candidates: int = 6
    root: bool = True
    prior: float = 0.4
    min_support: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ValueError: It is, or is no finite number.
        """
        if self.wording not in get_args(WordingKind):
            raise ValueError(f"wording is one of {', '.join(get_args(WordingKind))}")
        for name in ("sparsity", "decorrelation", "prior", "min_new", "min_more"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a finite number, at least 0")
        if not (0 <= self.max_similarity <= 1 and -1 <= self.min_support <= 1):
            raise ValueError("max_similarity is from 0 to 1, min_support from -1 to 1")
        if not (0 <= self.min_probability <= 1 and -1 <= self.join <= 1):
            raise ValueError("min_probability is from 0 to 1, join from -1 to 1")
        if not 1 <= self.min_odds < float("inf"):
            raise ValueError("min_odds is a finite number, at least 1")
        if not self.candidates >= 1:
            raise ValueError("candidates is at least 1")


@dataclass(frozen=True)
class WordSettings:
    """What a server changes of a bank's own settings.

    Attributes:
        wording: See RationaleSettings; None: the bank's.
        min_probability: Likewise.
    """

    wording: WordingKind | None = None
    min_probability: float | None = None

    def over(self, settings: RationaleSettings) -> RationaleSettings:
        """The bank's settings, with these in place of its own."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(settings, **given)
