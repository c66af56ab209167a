"""What the service answers, in Python's terms.

Letters in shapes: D channels, H x W map at model resolution, h x w image as sent.
Everything is frozen; arrays are read-only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textcam_client._arrays import Float32Array, ReadOnlyArrays, UInt8Array, to_json_list
from textcam_client._heatmaps.view import HeatmapContext, Peak
from textcam_client.images import ImageInput


@dataclass(frozen=True)
class Prediction:
    """One class with the model's opinion of it.

    Attributes:
        class_index: 0 .. C-1.
        class_name: As the model lists it.
        probability: Softmax over all classes, 0..1.
        logit: The class's logit.
    """

    class_index: int
    class_name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Phrase:
    """A phrase of the rationale.

    Attributes:
        text: The phrase.
        vocabulary_index: Its place in the model's vocabulary.
        score: With a calibrated bank, how far the evidence speaks for it beyond what the probing
            images' own evidence does, in standard deviations; else its coefficient in the sparse
            approximation of the evidence embedding. Above 0.
        similarity: Cosine of the evidence with the phrase's supports; without a calibrated bank, of
            the evidence embedding with the phrase's. -1..1.
        evidence: Its share, signed: the evidence of the channels in its group. Each channel is in
            one group, so shares, rest, bias and gap add up to the logit. In logit units; see
            Explanation.in_logit_units.
        probability: Of being true of what the network saw, 0..1, calibrated on the probing images
            (Provenance.calibration); None: the bank has no calibration, or the server is older.
        effect: The evidence of all channels that support it, each by how far, whichever group they
            are in, in units as `evidence`. Phrases share channels, so effects overlap and add up to
            nothing. 0 from a server that does not tell.
        kind: What it names: "thing", "part", "material", "texture", "colour", "shape", "scene" or
            "category"; None: not known.
    """

    text: str
    vocabulary_index: int
    score: float
    similarity: float
    evidence: float
    probability: float | None = None
    effect: float = 0.0
    kind: str | None = None


@dataclass(frozen=True, eq=False)
class SaliencyGroup(ReadOnlyArrays):
    """Channels that stand together, with their map.

    Attributes:
        phrase: The phrase that they support; None for the rest.
        channel_ids: int32, ascending, 0 .. D-1.
        evidence: Sum of the channels' evidence, in units as Phrase.evidence.
        evidence_for: Its positive part.
        evidence_against: Its negative part, <= 0.
        saliency_map: float32 (H, W), in the same units, with the mean `evidence`; None where
            maps were declined.
        relative_map: float32 (H, W), what the phrase has of its own: where the channels that
            support it more than they support the other phrases are active, by the size of their
            weights. Its mean is 0, and only differences within one map mean something: it is no
            part of a sum. It shows where the network sees the phrase more than the others, not
            where in an object a part is. None of the rest, where maps were declined, and from a
            server that does not tell.
        server_heatmap: uint8 (h, w), where heatmap="image" was asked for.
        server_overlay: PNG file, where heatmap="overlay" was asked for.
    """

    phrase: Phrase | None
    channel_ids: NDArray[np.int32] = field(repr=False)
    evidence: float
    evidence_for: float
    evidence_against: float
    saliency_map: Float32Array | None = field(repr=False)
    relative_map: Float32Array | None = field(repr=False)
    server_heatmap: UInt8Array | None = field(repr=False)
    server_overlay: bytes | None = field(repr=False)
    _context: HeatmapContext = field(repr=False)

    def heatmap(
        self,
        size: tuple[int, int] | None = None,
        *,
        scale: Literal["target", "own"] = "target",
        smooth: bool = False,
    ) -> Float32Array:
        """Where the group's support lies, at image resolution.

        Args:
            size: (h, w) of the result; default: the image as sent.
            scale: What becomes 1: the target's strongest support, so that the groups
                can be compared, or the group's own. Of a target without support, no part has any.
            smooth: For the eye; see Explanation.heatmap.

        Returns:
            float32 (h, w), 0..1; 0 outside the crop.

        Raises:
            MapsDeclined: The answer was requested without this map.
            ValueError: There is no such scale.
        """
        return self._context.heatmap(self.saliency_map, size, self._peak(scale), smooth=smooth)

    def overlay(
        self,
        image: ImageInput | None = None,
        *,
        scale: Literal["target", "own"] = "target",
        opacity: float = 0.75,
    ) -> Image.Image:
        """The heatmap over the image; see Explanation.overlay."""
        return self._context.overlay(
            lambda size: self.heatmap(size, scale=scale, smooth=True), image, opacity
        )

    def relative_heatmap(self, size: tuple[int, int] | None = None) -> Float32Array:
        """Where the network sees the phrase more than the other phrases.

        It is what `draw_figure` shows: the part of `relative_map` above its mean, drawn smoothly
        and on a scale of its own, so that it says where, and not how much. It is no measure of
        where in the image a part is.

        Args:
            size: (h, w) of the result; default: the image as sent.

        Returns:
            float32 (h, w), 0..1; 0 outside the crop, and everywhere if the map is the same
            everywhere.

        Raises:
            MapsDeclined: The answer has no such map; see `relative_map`.
        """
        return self._context.relative_heatmap(self.relative_map, size)

    def relative_overlay(
        self, image: ImageInput | None = None, *, opacity: float = 0.75
    ) -> Image.Image:
        """The relative heatmap over the image; see Explanation.overlay."""
        return self._context.overlay(self.relative_heatmap, image, opacity)

    def picture(self) -> Image.Image:
        """Open the image that was explained, as RGB; raises PictureUnavailable."""
        return self._context.picture()

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Turn into what JSON knows; `arrays` includes the map, as nested lists."""
        return {
            "phrase": self.phrase.text if self.phrase else None,
            "channel_ids": self.channel_ids.tolist(),
            "evidence": self.evidence,
            "evidence_for": self.evidence_for,
            "evidence_against": self.evidence_against,
            **(
                {
                    "saliency_map": to_json_list(self.saliency_map),
                    "relative_map": to_json_list(self.relative_map),
                }
                if arrays
                else {}
            ),
        }

    def _peak(self, scale: str) -> Peak:
        if scale not in ("target", "own"):
            raise ValueError(f"scale is 'target' or 'own', not {scale!r}")
        if scale == "own":
            return Peak(self.saliency_map, self._context.crop)
        return self._context.peak


@dataclass(frozen=True, eq=False)
class Explanation(ReadOnlyArrays):
    """The rationale of one target: bias + gap + the groups' evidence + the rest's = logit.

    Attributes:
        target: The class that is explained.
        reference: The class that `target` is compared with, or None.
        logit: What is explained: the target's logit, less that of `reference`.
        bias: The linear head's, which no channel accounts for; 0 with other heads.
        gap: What else the CAM method does not account for; 0, but for rounding, where the
            method is exact, as CAM is with a linear head. Without meaning where the evidence is
            not in logit units.
        network_passes: Passes of the network that the method took beyond the first.
        head_passes: Passes of the network's head that it took.
        saliency_map: float32 (H, W), in the evidence's units; None where maps were declined. With
            most methods the groups' maps and the rest's add up to it, and its mean is
            logit - bias - gap; the contract says with which it is otherwise.
        phrases: Chosen phrases, in the order in which they are best said; none is an answer: none
            that may be said is likely enough for what the network saw. Their evidence is in no
            order.
        groups: One per phrase, in the same order; empty where groups were declined.
        rest: The channels that support none of the phrases.
        sentence: The rationale in one English sentence, what is against the target last where
            phrases have no probability.
        in_logit_units: Whether maps and evidence are amounts of the logit; else they are on the
            method's own scale, and only shares of the evidence mean something. False, too, from
            a server that does not tell.
        server_heatmap: uint8 (h, w), where heatmap="image" was asked for.
        server_overlay: PNG file, where heatmap="overlay" was asked for.
    """

    target: Prediction
    reference: Prediction | None
    logit: float
    bias: float
    gap: float
    network_passes: int
    head_passes: int
    saliency_map: Float32Array | None = field(repr=False)
    phrases: tuple[Phrase, ...]
    groups: tuple[SaliencyGroup, ...]
    rest: SaliencyGroup
    sentence: str
    in_logit_units: bool
    server_heatmap: UInt8Array | None = field(repr=False)
    server_overlay: bytes | None = field(repr=False)
    _context: HeatmapContext = field(repr=False)

    def heatmap(self, size: tuple[int, int] | None = None, *, smooth: bool = False) -> Float32Array:
        """Where the model looked, at image resolution, computed here from the saliency map.

        Args:
            size: (h, w) of the result; default: the image as sent.
            smooth: Whether it is for the eye, as `overlay` and `draw_figure` draw it: without the
                ridges that bilinear interpolation leaves of few cells, and a little wider and
                flatter. Else it is the heatmap that the server makes.

        Returns:
            float32 (h, w), 0..1: 1 is the strongest support, 0 is no support, or outside
            the crop that the model saw.

        Raises:
            MapsDeclined: The answer was requested without maps.
        """
        return self._context.heatmap(self.saliency_map, size, self._context.peak, smooth=smooth)

    def overlay(self, image: ImageInput | None = None, *, opacity: float = 0.75) -> Image.Image:
        """The heatmap over the image, drawn smoothly.

        Args:
            image: What to draw on, of any size; default: the image that was explained.
            opacity: Of the hottest heat, 0..1; unheated parts stay as they are.

        Returns:
            An RGB image.

        Raises:
            MapsDeclined: The answer was requested without maps.
            PictureUnavailable: The image's file is gone or has changed.
            ValueError: The opacity is not 0..1.
        """
        return self._context.overlay(lambda size: self.heatmap(size, smooth=True), image, opacity)

    def picture(self) -> Image.Image:
        """Open the image that was explained, as RGB; raises PictureUnavailable."""
        return self._context.picture()

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Turn into what JSON knows; `arrays` includes the maps, as nested lists."""
        return {
            "target": asdict(self.target),
            "reference": asdict(self.reference) if self.reference else None,
            "logit": self.logit,
            "bias": self.bias,
            "gap": self.gap,
            "network_passes": self.network_passes,
            "head_passes": self.head_passes,
            "phrases": [asdict(phrase) for phrase in self.phrases],
            "groups": [group.to_dict(arrays=arrays) for group in self.groups],
            "rest": self.rest.to_dict(arrays=arrays),
            "sentence": self.sentence,
            "in_logit_units": self.in_logit_units,
            **({"saliency_map": to_json_list(self.saliency_map)} if arrays else {}),
        }
