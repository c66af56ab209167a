"""Made-up explainer for textcam_client.testing: deterministic, and true to the contract.

Its maps follow the image, and its evidence adds up to its logits, as in the real service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client.testing._bank import FakeBank
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
from textcam_client.testing._maps import Painter, float_tensor
from textcam_client.testing._network import CELLS, CHANNELS, FakeNetwork, NetworkOutput

DEFAULT_PREDICTIONS = 5
_MAX_NAMES = 5


class FakeExplainer:
    """Explainer without a service: turns requests into responses.

    Args:
        models: Names of the served models, which all give the same results.
        version: Their version.
        class_names: Their classes.
        vocabulary: Their phrases.
        calibrated: Give phrases probabilities, and the bank a calibration.
        multi_label: The classes do not exclude each other.
    """

    def __init__(
        self,
        models: Sequence[str],
        version: str,
        class_names: Sequence[str],
        vocabulary: Sequence[str],
        *,
        calibrated: bool = True,
        multi_label: bool = False,
    ) -> None:
        self.models = tuple(sorted(models))
        self.version = version
        self.network = FakeNetwork(class_names, multi_label=multi_label)
        self.bank = FakeBank(vocabulary, calibrated=calibrated)

    def explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        """Explain a request's image; raises Refused."""
        model = self.find_model(request.model)
        if request.method not in (types_pb.CAM_METHOD_UNSPECIFIED, types_pb.CAM_METHOD_CAM):
            raise invalid("UNSUPPORTED_METHOD", "method", f"{model!r} supports cam")
        check_options(request)
        check_bank(request, calibrated=self.bank.calibrated, kinds=self.bank.has_kinds)
        chosen = read_target(request.target, self.network.class_names)
        output = self.network.forward(*open_image(request))
        order = np.argsort(-output.logits, kind="stable")
        predictions = [self.network.prediction(output, index) for index in order]
        count = DEFAULT_PREDICTIONS
        if request.HasField("prediction_count"):
            count = request.prediction_count
        if isinstance(chosen, int):
            chosen = [(prediction.class_index, None) for prediction in predictions[:chosen]]
        return pb.ExplainResponse(
            request_id=request.request_id,
            predictions=predictions[:count],
            explanations=[self._explanation(request, output, *pair) for pair in chosen],
            image_height=output.image.height,
            image_width=output.image.width,
            crop=types_pb.Crop(
                left=output.crop.left,
                top=output.crop.top,
                width=output.crop.width,
                height=output.crop.height,
            ),
            provenance=self.provenance(model, output.decoder),
            timings=_timings(),
            digests=_digests(output) if request.include_channel_evidence else None,
        )

    def find_model(self, model: types_pb.ModelSpec) -> str:
        """Return the name of the requested model.

        Raises:
            Refused: The model or version is unknown, or none of several models is named.
        """
        names = ", ".join(map(repr, self.models[:_MAX_NAMES]))
        if len(self.models) > _MAX_NAMES:
            names += " ..."  # an error's message must fit into a call's trailers
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
            class_count=len(self.network.class_names),
            phrase_count=len(self.bank.vocabulary),
        )

    def describe(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """Describe a model; raises Refused."""
        model = self.find_model(request.model)
        return pb.GetModelResponse(
            summary=self._summary(model),
            class_names=self.network.class_names,
            vocabulary=self.bank.vocabulary,
            architecture="fake",
            target_layer="pool",
            input_height=CELLS * 32,
            input_width=CELLS * 32,
            map_height=CELLS,
            map_width=CELLS,
            channel_count=CHANNELS,
            provenance=self.provenance(model, ""),
            methods=[types_pb.CAM_METHOD_CAM],
            channel_phrases=self.bank.members.tolist(),
            multi_label=self.network.multi_label,
        )

    def provenance(self, model: str, decoder: str) -> types_pb.Provenance:
        """Build the provenance, with made-up but constant digests."""
        return types_pb.Provenance(
            model_name=model,
            model_version=self.version,
            backbone_digest=_digest("backbone"),
            bank_digest=_digest("bank"),
            vocabulary_digest=_digest("\n".join(self.bank.vocabulary)),
            service_version="fake",
            decoder=decoder,
            execution_provider="FakeExecutionProvider",
            method=types_pb.CAM_METHOD_CAM,
            parameters={"groups": "greedy"},
            layers=["pool"],
            head_kind="gap_linear",
            calibration=self.bank.calibration(),
        )

    def _explanation(
        self, request: pb.ExplainRequest, output: NetworkOutput, index: int, reference: int | None
    ) -> pb.Explanation:
        network, bank = self.network, self.bank
        weights, bias = network.head(index, reference)
        channel_maps = weights[:, None, None] * output.activation_maps
        evidence = channel_maps.mean(axis=(1, 2))
        with_groups = request.include_groups or not request.HasField("include_groups")
        painter = Painter(request.heatmap, output, channel_maps, with_groups)
        chosen = bank.choose(request, evidence, self.network.class_names[index])
        rest = np.flatnonzero(~np.isin(bank.members, chosen))
        message = pb.Explanation(
            target=network.prediction(output, index),
            logit=evidence.sum() + bias,
            bias=bias,
            phrases=[bank.phrase(p, evidence) for p in chosen],
            rest=painter.group(-1, rest),
            sentence=self._sentence(index, reference, chosen),
            in_logit_units=True,
        )
        if reference is not None:
            message.reference.CopyFrom(network.prediction(output, reference))
        if with_groups:
            message.groups.extend(
                painter.group(i, np.flatnonzero(bank.members == p), bank.supports[p])
                for i, p in enumerate(chosen)
            )
        if request.include_channel_evidence:
            message.channel_evidence.CopyFrom(float_tensor(evidence))
        painter.paint(message, channel_maps.sum(axis=0))
        return message

    def _sentence(self, index: int, reference: int | None, chosen: Sequence[int]) -> str:
        rather = "" if reference is None else f" rather than {self.network.class_names[reference]}"
        phrases = ", ".join(self.bank.vocabulary[p] for p in chosen) or "nothing in particular"
        return f"{self.network.class_names[index].capitalize()}{rather}, because of {phrases}."


def _timings() -> types_pb.Timings:
    """Return one millisecond for each stage, and no wait in the queue."""
    millisecond = Duration(nanos=1_000_000)
    return types_pb.Timings(
        decode=millisecond,
        queue=Duration(),
        inference=millisecond,
        attribution=millisecond,
        rationale=millisecond,
        encode=millisecond,
    )


def _digests(output: NetworkOutput) -> types_pb.StageDigests:
    return types_pb.StageDigests(
        pixels=_digest(output.image.tobytes()),
        activations=_digest(output.activation_maps.mean(axis=(1, 2)).round(3).tobytes()),
    )


def _digest(content: str | bytes) -> str:
    encoded = content.encode() if isinstance(content, str) else content
    return "sha256:" + hashlib.sha256(encoded).hexdigest()
