"""Parts of a result: predictions, phrases, groups of channels, explanations.

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
    """One class with its probability.

    Attributes:
        class_index: 0 .. C-1.
        class_name: Name in the model's list of classes.
        probability: Softmax over all classes, 0..1; of a multi-label model (Model.multi_label) the
            sigmoid of the logit.
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
        vocabulary_index: Its index in the model's vocabulary.
        score: With a calibrated bank, support by the evidence above that of the probing images, in
            standard deviations; else its coefficient in the sparse approximation of the evidence
            embedding. Above 0.
        similarity: Cosine of the evidence with the phrase's supports; without a calibrated bank, of
            the evidence embedding with the phrase's. -1..1.
        evidence: Its share, signed: the evidence of the channels in its group. Each channel is in
            one group, so shares, rest, bias and gap add up to the logit. In logit units; see
            Explanation.in_logit_units.
        probability: Probability that it is true of the network's input, 0..1, calibrated on the
            probing images (Provenance.calibration); None: the bank has no calibration, or the
            server is older.
        effect: The evidence of all channels that support it, in any group, weighted by their
            support, in the units of `evidence`. Phrases share channels, so effects overlap and do
            not add up. 0 from older servers.
        kind: Its kind: "thing", "part", "material", "texture", "colour", "shape", "scene" or
            "category"; None: unknown.
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
    """Group of channels, with their map.

    Attributes:
        phrase: The phrase that the channels support; None for the rest.
        channel_ids: int32, ascending, 0 .. D-1.
        evidence: Sum of the channels' evidence, in units as Phrase.evidence.
        evidence_for: Its positive part.
        evidence_against: Its negative part, <= 0.
        saliency_map: float32 (H, W), in the same units, with the mean `evidence`; None where
            maps were declined.
        relative_map: float32 (H, W), the part that is specific to the phrase: activity of the
            channels that support it more than the other phrases, by the size of their weights. Its
            mean is 0, and only differences within one map have a meaning: it is no part of a sum.
            It shows where the network sees the phrase more than the others, not where in an object
            a part is. None for the rest, if maps were declined, and from older servers.
        server_heatmap: uint8 (h, w), if heatmap="image" was requested.
        server_overlay: PNG file, if heatmap="overlay" was requested.
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
        """Compute the group's support at image resolution.

        Args:
            size: (h, w) of the result; default: the image as sent.
            scale: The support that becomes 1. "target": the target's strongest support, so that the
                groups can be compared. "own": the group's strongest support. If the target has no
                support, the heatmap is 0 everywhere.
            smooth: Interpolate smoothly, for pictures; see Explanation.heatmap.

        Returns:
            float32 (h, w), 0..1; 0 outside the crop.

        Raises:
            MapsDeclined: The result was requested without this map.
            ValueError: The scale is unknown.
        """
        return self._context.heatmap(self.saliency_map, size, self._peak(scale), smooth=smooth)

    def overlay(
        self,
        image: ImageInput | None = None,
        *,
        scale: Literal["target", "own"] = "target",
        opacity: float = 0.75,
    ) -> Image.Image:
        """Draw the heatmap over the image; see Explanation.overlay."""
        return self._context.overlay(
            lambda size: self.heatmap(size, scale=scale, smooth=True), image, opacity
        )

    def relative_heatmap(self, size: tuple[int, int] | None = None) -> Float32Array:
        """Compute where the network sees the phrase more than the other phrases.

        `draw_figure` shows this heatmap: the part of `relative_map` above its mean, interpolated
        smoothly and on its own scale. It shows where, not how much. It does not locate parts in
        the image.

        Args:
            size: (h, w) of the result; default: the image as sent.

        Returns:
            float32 (h, w), 0..1; 0 outside the crop, and everywhere if the map is constant.

        Raises:
            MapsDeclined: The result has no such map; see `relative_map`.
        """
        return self._context.relative_heatmap(self.relative_map, size)

    def relative_overlay(
        self, image: ImageInput | None = None, *, opacity: float = 0.75
    ) -> Image.Image:
        """Draw the relative heatmap over the image; see Explanation.overlay."""
        return self._context.overlay(self.relative_heatmap, image, opacity)

    def picture(self) -> Image.Image:
        """Open the explained image as RGB; raises PictureUnavailable."""
        return self._context.picture()

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Convert to JSON types; `arrays` includes the map, as nested lists."""
        return {
            "phrase": self.phrase.text if self.phrase else None,
            "channel_ids": self.channel_ids.tolist(),
            "evidence": self.evidence,
            "evidence_for": self.evidence_for,
            "evidence_against": self.evidence_against,
            **(_json_lists(self, "saliency_map", "relative_map") if arrays else {}),
        }

    def _peak(self, scale: str) -> Peak:
        if scale not in ("target", "own"):
            raise ValueError(f"scale is 'target' or 'own', not {scale!r}")
        if scale == "own":
            return Peak(self.saliency_map, self._context.crop)
        return self._context.peak


@dataclass(frozen=True, eq=False)
class Explanation(ReadOnlyArrays):
    """Rationale of one target: bias + gap + the groups' evidence + the rest's = logit.

    Attributes:
        target: The class that is explained.
        reference: The class that `target` is compared with, or None.
        logit: The explained number: the target's logit, minus that of `reference`.
        bias: Bias of the linear head, which belongs to no channel; 0 with other heads.
        gap: The rest that the CAM method does not account for; 0, but for rounding, if the
            method is complete, as CAM is with a linear head. It has no meaning if the evidence
            is not in logit units.
        network_passes: Passes of the network that the method took after the first.
        head_passes: Passes of the network's head that the method took.
        saliency_map: float32 (H, W), in the evidence's units; None where maps were declined. With
            most methods the groups' maps and the rest's add up to it, and its mean is
            logit - bias - gap; the contract names the exceptions.
        phrases: Chosen phrases, in the best order for a sentence, which is not that of their
            evidence. There may be none: no allowed phrase is likely enough for the network's input.
        groups: One per phrase, in the same order; empty where groups were declined.
        rest: The channels that support none of the phrases.
        sentence: The rationale in one English sentence. If phrases have no probability, those
            against the target come last.
        in_logit_units: True if maps and evidence are amounts of the logit; else they are on the
            method's own scale, and only shares of the evidence have a meaning. False from
            older servers.
        server_heatmap: uint8 (h, w), if heatmap="image" was requested.
        server_overlay: PNG file, if heatmap="overlay" was requested.
        channel_evidence: float32 (D,), units as Phrase.evidence; None: not requested.
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
    channel_evidence: Float32Array | None = field(default=None, repr=False)

    def heatmap(self, size: tuple[int, int] | None = None, *, smooth: bool = False) -> Float32Array:
        """Compute where the model looked, at image resolution, from the saliency map.

        Args:
            size: (h, w) of the result; default: the image as sent.
            smooth: Interpolate as `overlay` and `draw_figure` do: without the ridges that bilinear
                interpolation leaves between few cells, but a little wider and flatter. Else the
                heatmap equals the server's.

        Returns:
            float32 (h, w), 0..1: 1 is the strongest support; 0 is no support or outside the
            crop.

        Raises:
            MapsDeclined: The result was requested without maps.
        """
        return self._context.heatmap(self.saliency_map, size, self._context.peak, smooth=smooth)

    def overlay(self, image: ImageInput | None = None, *, opacity: float = 0.75) -> Image.Image:
        """Draw the heatmap, interpolated smoothly, over the image.

        Args:
            image: Image to draw on, of any size; default: the explained image.
            opacity: Opacity of the hottest heat, 0..1; parts without heat stay unchanged.

        Returns:
            An RGB image.

        Raises:
            MapsDeclined: The result was requested without maps.
            PictureUnavailable: The image's file is gone or has changed.
            ValueError: The opacity is outside 0..1.
        """
        return self._context.overlay(lambda size: self.heatmap(size, smooth=True), image, opacity)

    def picture(self) -> Image.Image:
        """Open the explained image as RGB; raises PictureUnavailable."""
        return self._context.picture()

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Convert to JSON types; `arrays` includes the maps, as nested lists."""
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
            **(_json_lists(self, "saliency_map", "channel_evidence") if arrays else {}),
        }


def _json_lists(owner: object, *names: str) -> dict[str, Any]:
    return {name: to_json_list(getattr(owner, name)) for name in names}
