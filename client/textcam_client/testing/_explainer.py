"""A made-up explainer for textcam_client.testing: deterministic, and true to the contract.

It is a tiny linear classifier over the image's colours: D channels of which each is a
fixed mixture of the colours, pooled to H x W cells. So its maps follow the image, and
its evidence adds up to its logits as the real service's does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client._heatmaps.geometry import Crop
from textcam_client.testing._checks import (
    check_bank,
    check_options,
    invalid,
    not_found,
    open_image,
    page_token,
    read_page,
    read_target,
)
from textcam_client.testing._maps import Painter, Seen

CLASS_NAMES = (
    "tabby cat", "golden retriever", "goldfish", "barn owl", "espresso", "sports car",
    "space shuttle", "acoustic guitar", "lighthouse", "daisy",
)  # fmt: skip
PHRASES = (
    "striped fur", "long whiskers", "green eyes", "wet nose", "orange scales", "round face",
    "brown foam", "shiny metal", "white smoke", "wooden body", "tall tower", "yellow petals",
)  # fmt: skip
# What phrases of a vocabulary name, where they are known.
KINDS: Mapping[str, types_pb.PhraseKind] = {
    "striped fur": types_pb.PHRASE_KIND_TEXTURE,
    "long whiskers": types_pb.PHRASE_KIND_PART,
    "green eyes": types_pb.PHRASE_KIND_PART,
    "wet nose": types_pb.PHRASE_KIND_PART,
    "orange scales": types_pb.PHRASE_KIND_TEXTURE,
    "round face": types_pb.PHRASE_KIND_SHAPE,
    "brown foam": types_pb.PHRASE_KIND_COLOUR,
    "shiny metal": types_pb.PHRASE_KIND_MATERIAL,
    "white smoke": types_pb.PHRASE_KIND_SCENE,
    "wooden body": types_pb.PHRASE_KIND_MATERIAL,
    "tall tower": types_pb.PHRASE_KIND_THING,
    "yellow petals": types_pb.PHRASE_KIND_PART,
}
CHANNELS = 24
CELLS = 7
DEFAULT_PHRASES = 5
DEFAULT_PREDICTIONS = 5
DEFAULT_MIN_PROBABILITY = 0.5
_NAMES_TOLD = 5


class FakeExplainer:
    """Answers requests by itself.

    Args:
        models: Names of the models that it serves, which all answer alike.
        version: Their version.
        class_names: Their classes.
        vocabulary: Their phrases.
        calibrated: Whether their bank has a calibration: phrases then have probabilities.
    """

    def __init__(
        self,
        models: Sequence[str],
        version: str,
        class_names: Sequence[str],
        vocabulary: Sequence[str],
        *,
        calibrated: bool = True,
    ) -> None:
        self.models = tuple(sorted(models))
        self.version = version
        self.class_names = tuple(class_names)
        self.vocabulary = tuple(vocabulary)
        self.calibrated = calibrated
        self._members = np.arange(CHANNELS) % len(self.vocabulary)
        # Each channel supports the phrase of its group, and the one before it as well.
        before = (self._members - 1) % len(self.vocabulary)
        of_phrase = np.arange(len(self.vocabulary))[:, None]
        self._supports = (self._members == of_phrase) | (before == of_phrase)
        seeded = np.random.default_rng(20251001)
        self._mixture = seeded.uniform(0, 1, (CHANNELS, 3)) ** 2
        self._weights = seeded.normal(0, 1.5, (len(self.class_names), CHANNELS))
        self._bias = seeded.normal(0, 0.2, len(self.class_names))

    def explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        """Answer a request; raises Refused."""
        model = self.find_model(request.model)
        if request.method not in (types_pb.CAM_METHOD_UNSPECIFIED, types_pb.CAM_METHOD_CAM):
            raise invalid("UNSUPPORTED_METHOD", "method", f"{model!r} supports cam")
        check_options(request)
        has_kinds = any(phrase in KINDS for phrase in self.vocabulary)
        check_bank(request, calibrated=self.calibrated, kinds=has_kinds)
        chosen = read_target(request.target, self.class_names)
        seen = self._look(*open_image(request))
        predictions = [self._prediction(seen, c) for c in np.argsort(-seen.logits, kind="stable")]
        count = DEFAULT_PREDICTIONS
        if request.HasField("prediction_count"):
            count = request.prediction_count
        if isinstance(chosen, int):
            chosen = [(prediction.class_index, None) for prediction in predictions[:chosen]]
        return pb.ExplainResponse(
            request_id=request.request_id,
            predictions=predictions[:count],
            explanations=[self._explanation(request, seen, *pair) for pair in chosen],
            image_height=seen.image.height,
            image_width=seen.image.width,
            crop=types_pb.Crop(
                left=seen.crop.left,
                top=seen.crop.top,
                width=seen.crop.width,
                height=seen.crop.height,
            ),
            provenance=self.provenance(model, seen.decoder),
            timings=_timings(),
        )

    def find_model(self, model: types_pb.ModelSpec) -> str:
        """Return the name of the model that is meant.

        Raises:
            Refused: Another model or version is named, or none where there are several.
        """
        names = ", ".join(map(repr, self.models[:_NAMES_TOLD]))
        if len(self.models) > _NAMES_TOLD:
            names += " ..."  # an error's message has to fit into a call's trailers
        if not model.name and len(self.models) > 1:
            raise invalid("INVALID_ARGUMENT", "model", f"name one of the models {names}")
        name = model.name or self.models[0]
        if name not in self.models:
            raise not_found("UNKNOWN_MODEL", "model.name", f"no model {name!r}; there is {names}")
        if model.version not in ("", self.version):
            message = f"no version {model.version!r} of {name!r}"
            raise not_found("UNKNOWN_VERSION", "model.version", message)
        return name

    def list_models(self, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """Return a page of the models, in order of name; raises Refused."""
        start, size = read_page(request)
        page = self.models[start : start + size]
        response = pb.ListModelsResponse(models=[self._summary(name) for name in page])
        if start + size < len(self.models):
            response.next_page_token = page_token(start + size)
        return response

    def _summary(self, model: str) -> pb.ModelSummary:
        return pb.ModelSummary(
            name=model,
            version=self.version,
            class_count=len(self.class_names),
            phrase_count=len(self.vocabulary),
        )

    def describe(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """Describe a model; raises Refused."""
        model = self.find_model(request.model)
        return pb.GetModelResponse(
            summary=self._summary(model),
            class_names=self.class_names,
            vocabulary=self.vocabulary,
            architecture="fake",
            target_layer="pool",
            input_height=CELLS * 32,
            input_width=CELLS * 32,
            map_height=CELLS,
            map_width=CELLS,
            channel_count=CHANNELS,
            provenance=self.provenance(model, ""),
            methods=[types_pb.CAM_METHOD_CAM],
        )

    def provenance(self, model: str, decoder: str) -> types_pb.Provenance:
        """Make up digests, the same each time."""
        return types_pb.Provenance(
            model_name=model,
            model_version=self.version,
            backbone_digest=_digest("backbone"),
            bank_digest=_digest("bank"),
            vocabulary_digest=_digest("\n".join(self.vocabulary)),
            service_version="fake",
            decoder=decoder,
            execution_provider="FakeExecutionProvider",
            method=types_pb.CAM_METHOD_CAM,
            parameters={"groups": "greedy"},
            layers=["pool"],
            head_kind="gap_linear",
            calibration=_calibration() if self.calibrated else None,
        )

    def _look(self, image: Image.Image, decoder: str) -> Seen:
        side = min(image.width, image.height)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        cells = image.resize(
            (CELLS, CELLS), Image.Resampling.BOX, (left, top, left + side, top + side)
        )
        colours = np.asarray(cells, np.float64).transpose(2, 0, 1) / 255
        maps = np.tensordot(self._mixture, colours, axes=1)
        logits = self._weights @ maps.mean(axis=(1, 2)) + self._bias
        return Seen(image, Crop(left, top, side, side), decoder, maps, logits)

    def _prediction(self, seen: Seen, index: int) -> types_pb.Prediction:
        likelihoods = np.exp(seen.logits - seen.logits.max())
        return types_pb.Prediction(
            class_index=index,
            class_name=self.class_names[index],
            probability=likelihoods[index] / likelihoods.sum(),
            logit=seen.logits[index],
        )

    def _explanation(
        self, request: pb.ExplainRequest, seen: Seen, index: int, reference: int | None
    ) -> pb.Explanation:
        weights, bias = self._weights[index], self._bias[index]
        if reference is not None:
            weights, bias = weights - self._weights[reference], bias - self._bias[reference]
        channel_maps = weights[:, None, None] * seen.activation_maps
        evidence = channel_maps.mean(axis=(1, 2))
        with_groups = request.include_groups or not request.HasField("include_groups")
        painter = Painter(request.heatmap, seen, channel_maps, with_groups)
        chosen = self._chosen(request, evidence, self.class_names[index])
        rest = np.flatnonzero(~np.isin(self._members, chosen))
        message = pb.Explanation(
            target=self._prediction(seen, index),
            logit=evidence.sum() + bias,
            bias=bias,
            phrases=[self._phrase(p, evidence) for p in chosen],
            rest=painter.group(-1, rest),
            sentence=self._sentence(index, reference, chosen),
            in_logit_units=True,
        )
        if reference is not None:
            message.reference.CopyFrom(self._prediction(seen, reference))
        if with_groups:
            message.groups.extend(
                painter.group(i, np.flatnonzero(self._members == p), self._supports[p])
                for i, p in enumerate(chosen)
            )
        painter.paint(message, channel_maps.sum(axis=0))
        return message

    def _chosen(
        self, request: pb.ExplainRequest, evidence: NDArray[np.float64], class_name: str
    ) -> list[int]:
        """The phrases that may be said and are probable enough, the most probable first."""
        count = request.max_phrases if request.HasField("max_phrases") else DEFAULT_PHRASES
        shares = self._shares(evidence)
        least = DEFAULT_MIN_PROBABILITY
        if request.HasField("min_probability"):
            least = request.min_probability
        chances = self._probabilities(evidence)
        said = [
            int(p)
            for p in np.argsort(-shares, kind="stable")
            if shares[p] > 0
            and (not self.calibrated or chances[p] >= least)
            and (not request.kinds or KINDS.get(self.vocabulary[p]) in request.kinds)
            and (request.repeat_class or not _repeats(self.vocabulary[p], class_name))
        ]
        return said[:count]

    def _shares(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = np.bincount(self._members, evidence, minlength=len(self.vocabulary))
        return np.asarray(shares, np.float64)

    def _probabilities(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """(V,), in order of the shares: .44 without evidence, .5 from a fortieth of it all."""
        parts = self._shares(evidence) / np.abs(evidence).sum()
        return np.asarray(1 / (1 + np.exp(0.25 - 10 * parts)))

    def _phrase(self, index: int, evidence: NDArray[np.float64]) -> types_pb.Phrase:
        members = self._members == index
        share = evidence[members].sum()
        phrase = types_pb.Phrase(
            text=self.vocabulary[index],
            vocabulary_index=index,
            score=share / np.abs(evidence).sum(),
            similarity=share / np.linalg.norm(evidence) / np.sqrt(members.sum()),
            evidence=share,
            effect=evidence[self._supports[index]].sum(),
            kind=KINDS.get(self.vocabulary[index], types_pb.PHRASE_KIND_UNSPECIFIED),
        )
        if self.calibrated:
            phrase.probability = self._probabilities(evidence)[index]
        return phrase

    def _sentence(self, index: int, reference: int | None, chosen: Sequence[int]) -> str:
        rather = "" if reference is None else f" rather than {self.class_names[reference]}"
        seen = ", ".join(self.vocabulary[p] for p in chosen) or "nothing in particular"
        return f"{self.class_names[index].capitalize()}{rather}, because of {seen}."


def _repeats(phrase: str, class_name: str) -> bool:
    """Whether one has no word that the other has not: "cat", or "small tabby cat", a tabby cat."""
    ours, theirs = set(phrase.casefold().split()), set(class_name.casefold().split())
    return ours <= theirs or theirs <= ours


def _calibration() -> types_pb.Calibration:
    """Made up: probabilities that held to 2 hundredths."""
    bins = [
        types_pb.Calibration.Bin(
            lower=tenth / 10,
            upper=(tenth + 1) / 10,
            probability=tenth / 10 + 0.05,
            observed=tenth / 10 + 0.05 + (0.02 if tenth % 2 else -0.02),
            count=1000 - 90 * tenth,
        )
        for tenth in range(10)
    ]
    return types_pb.Calibration(
        source="labels",
        images=500,
        min_probability=DEFAULT_MIN_PROBABILITY,
        expected_calibration_error=0.02,
        bins=bins,
    )


def _timings() -> types_pb.Timings:
    """Make up one millisecond for each stage, and a queue without a wait."""
    millisecond = Duration(nanos=1_000_000)
    return types_pb.Timings(
        decode=millisecond,
        queue=Duration(),
        inference=millisecond,
        attribution=millisecond,
        rationale=millisecond,
        encode=millisecond,
    )


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
