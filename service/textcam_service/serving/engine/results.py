"""Results of explain jobs, in the domain's own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textcam_service.core.types import Crop, Prediction, Rationale
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.jobs import Degradation, ExplainJob
from textcam_service.serving.engine.targets import ClassScores


@dataclass(frozen=True)
class ImageInfo:
    """Description of a decoded image, kept while its result is made; its pixels are not.

    Many images wait for inference at a time, and their pixels are many times their files' size.

    Attributes:
        height: Pixels.
        width: Pixels.
        decoder: Name of the decoder.
        crop: The part that the model saw.
        use_profile: Colours were to be converted by an embedded profile.
        pixels_digest: "sha256:..." of the decoded pixels; "": not requested.
    """

    height: int
    width: int
    decoder: str
    crop: Crop
    use_profile: bool = True
    pixels_digest: str = ""


@dataclass(frozen=True)
class TargetResult:
    """Explanation of one target.

    Attributes:
        target: The explained class.
        reference: The class that a contrast explains the target against; None: no contrast.
        rationale: Phrases, maps and evidence.
        sentence: The rationale in English.
        network_passes: Passes of the whole network beyond the first.
        head_passes: Passes of the head, forward or backward.
    """

    target: Prediction
    reference: Prediction | None
    rationale: Rationale
    sentence: str
    network_passes: int = 0
    head_passes: int = 0


@dataclass(frozen=True)
class ExplainResult:
    """Result of a job, with what made it: job, model and decoder are its provenance.

    Attributes:
        job: The job that ran: degraded, if `degradations` names any.
        bundle: The model that ran it.
        image: The decoded image.
        scores: The model's scores of all classes.
        explanations: One per target, in the job's order.
        degradations: Parts that were left out under pressure.
        activations_digest: "sha256:..." of the rounded activation scores; "": not requested.
    """

    job: ExplainJob
    bundle: ModelBundle
    image: ImageInfo
    scores: ClassScores
    explanations: Sequence[TargetResult]
    degradations: tuple[Degradation, ...] = ()
    activations_digest: str = ""

    @property
    def predictions(self) -> list[Prediction]:
        """The most probable classes, as many as the job lists."""
        return self.scores.most_probable(self.job.prediction_count)

    @property
    def map_count(self) -> int:
        """Number of heatmaps: one per target and, with groups, one of each group and the rest."""
        groups = sum(len(own.rationale.groups) + 1 for own in self.explanations)
        return len(self.explanations) + (groups if self.job.include_groups else 0)
