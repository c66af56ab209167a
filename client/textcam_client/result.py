"""The result of explaining one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from textcam_client._arrays import Float32Array, UInt8Array
from textcam_client._heatmaps.geometry import Crop
from textcam_client.errors import MalformedResponse, SeveralTargets
from textcam_client.images import ImageInput
from textcam_client.model import Provenance
from textcam_client.types import Explanation, Phrase, Prediction, SaliencyGroup


@dataclass(frozen=True, eq=False)
class ExplainResult:
    """Result for one image.

    With one target, the fields and methods of its explanation are here too: `result.phrases` is
    `result.explanation.phrases`. With several targets they raise SeveralTargets; use those of each
    of `result.explanations`.

    Attributes:
        predictions: The most probable classes, the most probable first.
        explanations: One Explanation per target, in the order of the request.
        provenance: Versions, digests and parameters behind the result.
        crop: The part of the image that the model saw.
        image_size: (h, w) of the image as sent, after EXIF rotation, pixels.
        request_id: Id of the request, also in the server's log.
        stage_seconds: Seconds spent in the server, by stage: "decode", "queue", "inference",
            "attribution", "rationale", "encode"; a stage that was not reached is left out.
        degradations: Parts left out under pressure, if the call allowed it: "smaller_maps",
            "no_groups", "fewer_targets".
        digests: "sha256:..." of intermediate values, "pixels" and "activations" (see StageDigests
            in the contract); empty unless channel evidence was requested.
    """

    predictions: tuple[Prediction, ...]
    explanations: tuple[Explanation, ...]
    provenance: Provenance
    crop: Crop
    image_size: tuple[int, int]
    request_id: str
    stage_seconds: Mapping[str, float]
    degradations: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def explanation(self) -> Explanation:
        """The explanation of the one target.

        Raises:
            SeveralTargets: There are several targets.
            MalformedResponse: There is no target, which breaks the contract.
        """
        if len(self.explanations) > 1:
            names = ", ".join(repr(each.target.class_name) for each in self.explanations)
            raise SeveralTargets(
                f"{len(self.explanations)} targets were explained ({names}), so there is no single "
                "explanation: use result.explanations[i], or iterate over result.explanations"
            )
        if not self.explanations:
            raise MalformedResponse("the result has no target; the server breaks the contract")
        return self.explanations[0]

    @property
    def target(self) -> Prediction:
        """The class that is explained; see Explanation.target."""
        return self.explanation.target

    @property
    def reference(self) -> Prediction | None:
        """The class that the target is compared with; see Explanation.reference."""
        return self.explanation.reference

    @property
    def logit(self) -> float:
        """The number that is explained; see Explanation.logit."""
        return self.explanation.logit

    @property
    def bias(self) -> float:
        """The linear head's bias; see Explanation.bias."""
        return self.explanation.bias

    @property
    def gap(self) -> float:
        """The part of the logit that the method leaves out; see Explanation.gap."""
        return self.explanation.gap

    @property
    def in_logit_units(self) -> bool:
        """True if evidence is in units of the logit; see Explanation.in_logit_units."""
        return self.explanation.in_logit_units

    @property
    def network_passes(self) -> int:
        """Passes of the network beyond the first; see Explanation.network_passes."""
        return self.explanation.network_passes

    @property
    def head_passes(self) -> int:
        """Passes of the network's head; see Explanation.head_passes."""
        return self.explanation.head_passes

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The phrases, best first; see Explanation.phrases."""
        return self.explanation.phrases

    @property
    def sentence(self) -> str:
        """The rationale in one English sentence; see Explanation.sentence."""
        return self.explanation.sentence

    @property
    def groups(self) -> tuple[SaliencyGroup, ...]:
        """A group of channels per phrase; see Explanation.groups."""
        return self.explanation.groups

    @property
    def rest(self) -> SaliencyGroup:
        """The channels that support none of the phrases; see Explanation.rest."""
        return self.explanation.rest

    @property
    def saliency_map(self) -> Float32Array | None:
        """float32 (H, W); see Explanation.saliency_map."""
        return self.explanation.saliency_map

    @property
    def channel_evidence(self) -> Float32Array | None:
        """float32 (D,); see Explanation.channel_evidence."""
        return self.explanation.channel_evidence

    @property
    def server_heatmap(self) -> UInt8Array | None:
        """uint8 (h, w), if heatmap="image" was requested."""
        return self.explanation.server_heatmap

    @property
    def server_overlay(self) -> bytes | None:
        """PNG file, if heatmap="overlay" was requested."""
        return self.explanation.server_overlay

    def heatmap(self, size: tuple[int, int] | None = None, *, smooth: bool = False) -> Float32Array:
        """Compute the one target's heatmap, (h, w); see Explanation.heatmap."""
        return self.explanation.heatmap(size, smooth=smooth)

    def overlay(self, image: ImageInput | None = None, *, opacity: float = 0.75) -> Image.Image:
        """Draw the one target's heatmap over the image; see Explanation.overlay."""
        return self.explanation.overlay(image, opacity=opacity)

    def picture(self) -> Image.Image:
        """Open the explained image as RGB; raises PictureUnavailable."""
        if not self.explanations:
            raise MalformedResponse("the result has no target; the server breaks the contract")
        return self.explanations[0].picture()

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Convert to JSON types, for audit logs; `arrays` includes the maps."""
        return {
            "request_id": self.request_id,
            "image_size": list(self.image_size),
            "crop": asdict(self.crop),
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "explanations": [target.to_dict(arrays=arrays) for target in self.explanations],
            "provenance": asdict(self.provenance),
            "stage_seconds": dict(self.stage_seconds),
            "degradations": list(self.degradations),
            "digests": dict(self.digests),
        }
