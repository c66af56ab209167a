"""Jobs: requests to explain an image, in the domain's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from textcam_service.core.methods import Method
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import UInt8Array
from textcam_service.errors import InvalidArgument

MAX_REQUEST_ID = 128
DEFAULT_PREDICTIONS = 5


class HeatmapForm(Enum):
    """Form of the heatmaps in a response."""

    NONE = "none"
    """No maps at all."""
    SALIENCY = "saliency"
    """Saliency maps at model resolution, (H, W)."""
    IMAGE = "image"
    """Saliency maps, and heatmaps at image resolution, (h, w)."""
    OVERLAY = "overlay"
    """Saliency maps, and the image with the heatmap over it."""


class Degradation(Enum):
    """Part that is left out of a response under pressure."""

    SMALLER_MAPS = "smaller_maps"
    """Saliency maps in place of heatmaps at image resolution."""
    NO_GROUPS = "no_groups"
    """No map per phrase."""
    FEWER_TARGETS = "fewer_targets"
    """The first target alone."""


@dataclass(frozen=True)
class ModelRef:
    """Name and version of a model, as a request gives them.

    Attributes:
        name: Empty: the only model that is served.
        version: Empty: the current one.
    """

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class TopK:
    """Targets: the k most probable classes."""

    k: int


@dataclass(frozen=True)
class Classes:
    """Targets: chosen classes, by index."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Contrast:
    """Target: one class rather than another, both by index."""

    target: int
    reference: int


TargetSpec: TypeAlias = TopK | Classes | Contrast


@dataclass(frozen=True)
class ExplainJob:
    """A valid request to explain one image with one model.

    Attributes:
        image: The bytes of an image file, or pixels (h, w, 3) uint8.
        method: The CAM method.
        phrase_filter: Requirements on the phrases.
        target: Classes to explain, valid for the model.
        heatmap: Form of the heatmaps.
        include_groups: True for a map per phrase.
        prediction_count: Predictions to list.
        may_degrade: True if a smaller response will do under pressure.
        request_id: Chosen by the client; echoed in the response.
        include_channel_evidence: True for the evidence of every channel, and digests of stages.
    """

    image: bytes | UInt8Array
    method: Method
    phrase_filter: PhraseFilter
    target: TargetSpec = TopK(1)
    heatmap: HeatmapForm = HeatmapForm.SALIENCY
    include_groups: bool = True
    prediction_count: int = DEFAULT_PREDICTIONS
    may_degrade: bool = False
    request_id: str = ""
    include_channel_evidence: bool = False

    @property
    def target_count(self) -> int:
        """Number of explained targets."""
        if isinstance(self.target, TopK):
            return self.target.k
        return len(self.target.indices) if isinstance(self.target, Classes) else 1

    @property
    def min_map_count(self) -> int:
        """Least number of heatmaps: the whole of each target and, with groups, the rest."""
        return self.target_count * (2 if self.include_groups else 1)


def check_request_id(request_id: str, field: str = "request_id") -> None:
    """Refuse an id that is too long to be held, logged and echoed.

    Raises:
        InvalidArgument: It has more than MAX_REQUEST_ID characters.
    """
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidArgument(
            f"a request id has at most {MAX_REQUEST_ID} characters, not {len(request_id)}",
            field=field,
        )
