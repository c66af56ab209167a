"""A made-up explainer for textcam_client.testing: deterministic, and true to the contract.

It is a tiny linear classifier over the image's colours: D channels of which each is a
fixed mixture of the colours, pooled to H x W cells. So its maps follow the image, and
its evidence adds up to its logits as the real service's does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from textcam.v1 import explainer_pb2 as pb

from textcam_client._fake_maps import Painter, Seen
from textcam_client.answers import tensor
from textcam_client.errors import MalformedAnswer
from textcam_client.geometry import Crop
from textcam_client.images import to_rgb

CLASS_NAMES = (
    "tabby cat", "golden retriever", "goldfish", "barn owl", "espresso", "sports car",
    "space shuttle", "acoustic guitar", "lighthouse", "daisy",
)  # fmt: skip
PHRASES = (
    "striped fur", "long whiskers", "green eyes", "wet nose", "orange scales", "round face",
    "brown foam", "shiny metal", "white smoke", "wooden body", "tall tower", "yellow petals",
)  # fmt: skip
CHANNELS = 24
CELLS = 7
MAX_PHRASES = 8
MAX_TARGETS = 8


class Refused(Exception):
    """A request that is answered by an error; the parts are those of a CallError."""

    def __init__(
        self, code: Any, reason: str, message: str, violations: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.retry_after: float | None = None


def invalid(reason: str, field: str, message: str) -> Refused:
    """The refusal of one field."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, reason, message, [(field, message)])


def not_found(reason: str, message: str) -> Refused:
    """The refusal of a name."""
    return Refused(grpc.StatusCode.NOT_FOUND, reason, message)


class FakeExplainer:
    """Answers requests by itself.

    Args:
        model: Name of the one model that it serves.
        version: Its version.
        class_names: Its classes.
        phrases: Its vocabulary.
    """

    def __init__(
        self, model: str, version: str, class_names: Sequence[str], phrases: Sequence[str]
    ) -> None:
        self.model = model
        self.version = version
        self.class_names = tuple(class_names)
        self.phrases = tuple(phrases)
        seeded = np.random.default_rng(20251001)
        self._mixture = seeded.uniform(0, 1, (CHANNELS, 3)) ** 2
        self._weights = seeded.normal(0, 1.5, (len(self.class_names), CHANNELS))
        self._bias = seeded.normal(0, 0.2, len(self.class_names))

    def explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        """Answer a request; raises Refused."""
        self.check_model(request.model)
        if request.method not in (pb.CAM_METHOD_UNSPECIFIED, pb.CAM_METHOD_CAM):
            raise invalid("UNSUPPORTED_METHOD", "method", f"{self.model!r} supports cam")
        seen = self._look(request)
        predictions = [self._prediction(seen, c) for c in np.argsort(-seen.logits, kind="stable")]
        count = request.predictions if request.HasField("predictions") else 5
        pairs = self._targets(request.target, [p.class_index for p in predictions])
        return pb.ExplainResponse(
            request_id=request.request_id,
            predictions=predictions[:count],
            explanations=[self._explanation(request, seen, *pair) for pair in pairs],
            image_height=seen.image.height,
            image_width=seen.image.width,
            crop=pb.Crop(
                left=seen.crop.left,
                top=seen.crop.top,
                width=seen.crop.width,
                height=seen.crop.height,
            ),
            provenance=self.provenance(seen.decoder),
            stage_seconds={"decode": 0.001, "queue": 0.0, "inference": 0.002, "explain": 0.001},
        )

    def check_model(self, model: pb.ModelSpec) -> None:
        """Raises Refused where another model or version is named."""
        if model.name not in ("", self.model):
            raise not_found("UNKNOWN_MODEL", f"no model {model.name!r}; there is {self.model!r}")
        if model.version not in ("", self.version):
            raise not_found("UNKNOWN_VERSION", f"no version {model.version!r} of {self.model!r}")

    def summary(self) -> pb.ModelSummary:
        """The one model in short."""
        return pb.ModelSummary(
            name=self.model,
            version=self.version,
            class_count=len(self.class_names),
            phrase_count=len(self.phrases),
        )

    def describe(self) -> pb.GetModelResponse:
        """The one model."""
        return pb.GetModelResponse(
            summary=self.summary(),
            class_names=self.class_names,
            phrases=self.phrases,
            architecture="fake",
            target_layer="pool",
            input_height=CELLS * 32,
            input_width=CELLS * 32,
            map_height=CELLS,
            map_width=CELLS,
            channel_count=CHANNELS,
            provenance=self.provenance(""),
            methods=[pb.CAM_METHOD_CAM],
        )

    def provenance(self, decoder: str) -> pb.Provenance:
        """Made-up digests, but the same each time."""
        return pb.Provenance(
            model_name=self.model,
            model_version=self.version,
            backbone_digest=_digest("backbone"),
            bank_digest=_digest("bank"),
            vocabulary_digest=_digest("\n".join(self.phrases)),
            service_version="fake",
            decoder=decoder,
            execution_provider="FakeExecutionProvider",
            method="cam",
            parameters={"groups": "greedy"},
            layers=["pool"],
            head_kind="gap_linear",
        )

    def _look(self, request: pb.ExplainRequest) -> Seen:
        image, decoder = _decoded(request)
        side = min(image.width, image.height)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        cells = image.resize(
            (CELLS, CELLS), Image.Resampling.BOX, (left, top, left + side, top + side)
        )
        colours = np.asarray(cells, np.float64).transpose(2, 0, 1) / 255
        maps = np.tensordot(self._mixture, colours, axes=1)
        logits = self._weights @ maps.mean(axis=(1, 2)) + self._bias
        return Seen(image, Crop(left, top, side, side), decoder, maps, logits)

    def _targets(self, target: pb.Target, ranked: Sequence[int]) -> list[tuple[int, int | None]]:
        kind = target.WhichOneof("of")
        if kind == "contrast":
            chosen = getattr(target.contrast, "class")
            return [(self._class_index(chosen), self._class_index(target.contrast.against))]
        if kind == "classes":
            return [(self._class_index(ref), None) for ref in target.classes.classes]
        count = target.top_k.k if kind == "top_k" else 1
        if not 1 <= count <= MAX_TARGETS:
            raise invalid("INVALID_ARGUMENT", "target.top_k.k", f"k is 1 .. {MAX_TARGETS}")
        return [(index, None) for index in ranked[:count]]

    def _class_index(self, ref: pb.ClassRef) -> int:
        if ref.WhichOneof("by") == "name":
            names = [name.lower() for name in self.class_names]
            if ref.name.lower() in names:
                return names.index(ref.name.lower())
            raise not_found("UNKNOWN_CLASS", f"no class {ref.name!r}")
        if not 0 <= ref.index < len(self.class_names):
            raise not_found("UNKNOWN_CLASS", f"no class {ref.index} of {len(self.class_names)}")
        return ref.index

    def _prediction(self, seen: Seen, index: int) -> pb.Prediction:
        likelihoods = np.exp(seen.logits - seen.logits.max())
        return pb.Prediction(
            class_index=index,
            class_name=self.class_names[index],
            probability=likelihoods[index] / likelihoods.sum(),
            logit=seen.logits[index],
        )

    def _explanation(
        self, request: pb.ExplainRequest, seen: Seen, index: int, against: int | None
    ) -> pb.Explanation:
        weights, bias = self._weights[index], self._bias[index]
        if against is not None:
            weights, bias = weights - self._weights[against], bias - self._bias[against]
        channel_maps = weights[:, None, None] * seen.activation_maps
        evidence = channel_maps.mean(axis=(1, 2))
        painter = Painter(request.heatmap, seen, channel_maps)
        members, chosen = self._chosen(request, evidence)
        rest = np.flatnonzero(~np.isin(members, chosen))
        message = pb.Explanation(
            target=self._prediction(seen, index),
            logit=evidence.sum() + bias,
            bias=bias,
            phrases=[self._phrase(p, evidence, members == p) for p in chosen],
            rest=painter.group(-1, rest),
            sentence=self._sentence(index, against, chosen),
            in_logit_units=True,
        )
        if against is not None:
            message.against.CopyFrom(self._prediction(seen, against))
        if request.groups or not request.HasField("groups"):
            groups = [painter.group(i, np.flatnonzero(members == p)) for i, p in enumerate(chosen)]
            message.groups.extend(groups)
        painter.paint(message, channel_maps.sum(axis=0))
        return message

    def _chosen(
        self, request: pb.ExplainRequest, evidence: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], list[int]]:
        """Each channel's phrase, and the phrases with the most evidence for them."""
        count = request.phrases if request.HasField("phrases") else 4
        if not 1 <= count <= MAX_PHRASES:
            raise invalid("INVALID_ARGUMENT", "phrases", f"phrases is 1 .. {MAX_PHRASES}")
        members = np.arange(CHANNELS) % len(self.phrases)
        shares = np.bincount(members, evidence, minlength=len(self.phrases))
        ranked = np.argsort(-shares, kind="stable")[:count]
        return members, [int(p) for p in ranked if shares[p] > 0]

    def _phrase(
        self, index: int, evidence: NDArray[np.float64], members: NDArray[np.bool_]
    ) -> pb.Phrase:
        share = evidence[members].sum()
        return pb.Phrase(
            text=self.phrases[index],
            vocabulary_index=index,
            score=share / np.abs(evidence).sum(),
            similarity=share / np.linalg.norm(evidence) / np.sqrt(members.sum()),
            evidence=share,
        )

    def _sentence(self, index: int, against: int | None, chosen: Sequence[int]) -> str:
        rather = "" if against is None else f" rather than {self.class_names[against]}"
        seen = ", ".join(self.phrases[p] for p in chosen) or "nothing in particular"
        return f"{self.class_names[index].capitalize()}{rather}, because of {seen}."


def _decoded(request: pb.ExplainRequest) -> tuple[Image.Image, str]:
    if request.WhichOneof("image") == "pixels":
        try:
            return Image.fromarray(tensor(request.pixels)), "raw"
        except (MalformedAnswer, TypeError) as error:
            raise invalid("INVALID_TENSOR", "pixels", str(error)) from error
    try:
        opened = Image.open(io.BytesIO(request.encoded))
        return to_rgb(opened), f"pillow/{opened.format}"
    except (OSError, SyntaxError, ValueError) as error:
        raise invalid("INVALID_IMAGE", "encoded", f"not an image: {error}") from error


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
