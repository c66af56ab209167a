"""Conversion of the contract's responses to Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client import types
from textcam_client._arrays import Float32Array, UInt8Array
from textcam_client._convert.requests import PHRASE_KINDS, method_name
from textcam_client._heatmaps.geometry import Crop
from textcam_client._heatmaps.view import HeatmapContext, Peak
from textcam_client.errors import MalformedResponse, MethodIgnored, Unavailable
from textcam_client.images import ImageSource
from textcam_client.model import Calibration, CalibrationBin, Model, ModelSummary, Provenance
from textcam_client.result import ExplainResult

_Value = TypeVar("_Value")
_KIND_NAMES: Mapping[int, str] = {number: name for name, number in PHRASE_KINDS.items()}
_DTYPES: Mapping[int, Any] = {
    types_pb.Tensor.D_TYPE_UINT8: np.dtype(np.uint8),
    types_pb.Tensor.D_TYPE_FLOAT32: np.dtype("<f4"),
}


def explain_result(
    response: pb.ExplainResponse, source: ImageSource | None, method: int = 0
) -> ExplainResult:
    """Convert the response of Explain.

    Args:
        response: The response.
        source: Source of the image, for drawing.
        method: Number of the requested CAM method; 0: the server's choice.

    Raises:
        MalformedResponse: An array's bytes do not match its shape.
        MethodIgnored: The server used another method.
    """
    _require_method(response.provenance, method)
    image_size = (response.image_height, response.image_width)
    given = response.crop
    crop = Crop(given.left, given.top, given.width, given.height, given.shift_x, given.shift_y)
    return ExplainResult(
        predictions=tuple(_prediction(p) for p in response.predictions),
        explanations=tuple(
            _explanation(message, image_size, crop, source) for message in response.explanations
        ),
        provenance=_provenance(response.provenance),
        crop=crop,
        image_size=image_size,
        request_id=response.request_id,
        stage_seconds=_stage_seconds(response.timings),
        degradations=tuple(
            types_pb.Degradation.Name(number).removeprefix("DEGRADATION_").lower()
            for number in response.degradations
            if number in types_pb.Degradation.values()
        ),
        digests={field.name: value for field, value in response.digests.ListFields()},
    )


def models(response: pb.ListModelsResponse) -> tuple[ModelSummary, ...]:
    """Convert a page of models."""
    return tuple(_summary(summary) for summary in response.models)


def require_serving(response: health_pb2.HealthCheckResponse) -> None:
    """Raise Unavailable unless the server reports that it serves."""
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unavailable(
            "the server runs but does not serve: no model is ready, or it is stopping"
        )


def model(response: pb.GetModelResponse) -> Model:
    """Convert a model's description."""
    return Model(
        summary=_summary(response.summary),
        class_names=tuple(response.class_names),
        vocabulary=tuple(response.vocabulary),
        architecture=response.architecture,
        target_layer=response.target_layer,
        input_size=(response.input_height, response.input_width),
        map_size=(response.map_height, response.map_width),
        channel_count=response.channel_count,
        dead_channel_count=response.dead_channel_count,
        provenance=_provenance(response.provenance),
        methods=tuple(
            method_name(number)
            for number in response.methods
            if number in types_pb.CamMethod.values()
        ),
        multi_label=response.multi_label,
        channel_phrases=tuple(response.channel_phrases),
    )


def tensor(message: types_pb.Tensor) -> NDArray[Any]:
    """Convert a Tensor to a read-only array.

    Raises:
        MalformedResponse: Type, shape and data contradict each other.
    """
    try:
        return np.frombuffer(message.data, _DTYPES[message.dtype]).reshape(tuple(message.shape))
    except (KeyError, ValueError) as error:
        raise MalformedResponse(
            f"{len(message.data)} bytes do not make an array of type {message.dtype} and shape "
            f"{list(message.shape)}"
        ) from error


def _explanation(
    message: pb.Explanation, image_size: tuple[int, int], crop: Crop, source: ImageSource | None
) -> types.Explanation:
    saliency_map = _map(message, "saliency_map")
    context = HeatmapContext(image_size, crop, source, Peak(saliency_map, crop))
    phrases = tuple(_phrase(p) for p in message.phrases)
    return types.Explanation(
        target=_prediction(message.target),
        reference=_prediction(message.reference) if message.HasField("reference") else None,
        logit=message.logit,
        bias=message.bias,
        gap=message.gap,
        network_passes=message.network_passes,
        head_passes=message.head_passes,
        saliency_map=saliency_map,
        phrases=phrases,
        groups=tuple(_group(g, _phrase_of(g, phrases), context) for g in message.groups),
        rest=_group(message.rest, None, context),
        sentence=message.sentence,
        in_logit_units=message.in_logit_units,
        server_heatmap=_server_heatmap(message.heatmap),
        server_overlay=message.heatmap.overlay_png or None,
        channel_evidence=_vector(message, "channel_evidence"),
        _context=context,
    )


def _require_method(provenance: types_pb.Provenance, asked: int) -> None:
    if asked in (types_pb.CAM_METHOD_UNSPECIFIED, provenance.method):
        return
    version = provenance.service_version or "unknown"
    used = method_name(provenance.method) or "an unnamed method"
    raise MethodIgnored(
        f"{method_name(asked)} was requested, but the server (version {version}) used "
        f"{used}: it is older than the requested method; update it, or request no method"
    )


def _phrase_of(message: types_pb.SaliencyGroup, phrases: tuple[types.Phrase, ...]) -> types.Phrase:
    if not 0 <= message.phrase_index < len(phrases):
        raise MalformedResponse(f"a group names phrase {message.phrase_index} of {len(phrases)}")
    return phrases[message.phrase_index]


def _group(
    message: types_pb.SaliencyGroup, phrase: types.Phrase | None, context: HeatmapContext
) -> types.SaliencyGroup:
    return types.SaliencyGroup(
        phrase=phrase,
        channel_ids=_channel_ids(message.channel_ids),
        evidence=message.evidence,
        evidence_for=message.evidence_for,
        evidence_against=message.evidence_against,
        saliency_map=_map(message, "saliency_map"),
        relative_map=_map(message, "relative_map"),
        server_heatmap=_server_heatmap(message.heatmap),
        server_overlay=message.heatmap.overlay_png or None,
        _context=context,
    )


def _map(message: pb.Explanation | types_pb.SaliencyGroup, name: str) -> Float32Array | None:
    if not message.HasField(name):
        return None
    values = tensor(getattr(message, name))
    if values.ndim != 2 or not values.size or values.dtype != np.float32:
        raise MalformedResponse(
            f"a map is float32 of shape (H, W), not {values.dtype} of shape {values.shape}"
        )
    return values


def _vector(message: pb.Explanation, name: str) -> Float32Array | None:
    if not message.HasField(name):
        return None
    values = tensor(getattr(message, name))
    if values.ndim != 1 or values.dtype != np.float32:
        raise MalformedResponse(
            f"{name} is float32 of shape (D,), not {values.dtype} of shape {values.shape}"
        )
    return values


def _server_heatmap(message: types_pb.Heatmap) -> UInt8Array | None:
    return tensor(message.image) if message.HasField("image") else None


def _prediction(message: types_pb.Prediction) -> types.Prediction:
    return types.Prediction(
        message.class_index, message.class_name, message.probability, message.logit
    )


def _phrase(message: types_pb.Phrase) -> types.Phrase:
    return types.Phrase(
        message.text,
        message.vocabulary_index,
        message.score,
        message.similarity,
        message.evidence,
        probability=message.probability if message.HasField("probability") else None,
        effect=message.effect,
        # A kind that is newer than this client has no name here.
        kind=_KIND_NAMES.get(message.kind),
    )


def _provenance(message: types_pb.Provenance) -> Provenance:
    return Provenance(
        model_name=message.model_name,
        model_version=message.model_version,
        backbone_digest=message.backbone_digest,
        bank_digest=message.bank_digest,
        vocabulary_digest=message.vocabulary_digest,
        service_version=message.service_version,
        decoder=message.decoder,
        execution_provider=message.execution_provider,
        method=method_name(message.method),
        parameters=_by_name(message.parameters),
        layers=tuple(message.layers),
        head_kind=message.head_kind,
        calibration=(
            _calibration(message.calibration) if message.HasField("calibration") else None
        ),
    )


def _calibration(message: types_pb.Calibration) -> Calibration:
    return Calibration(
        source=message.source,
        images=message.images,
        min_probability=message.min_probability,
        expected_calibration_error=message.expected_calibration_error,
        bins=tuple(
            CalibrationBin(b.lower, b.upper, b.probability, b.observed, b.count)
            for b in message.bins
        ),
    )


def _stage_seconds(timings: types_pb.Timings) -> dict[str, float]:
    """Return the seconds of each stage that was reached, in the contract's order."""
    # ListFields returns the fields that are set, in the order of their numbers.
    return {stage.name: spent.seconds + spent.nanos * 1e-9 for stage, spent in timings.ListFields()}


def _channel_ids(given: Sequence[int]) -> NDArray[np.int32]:
    """Return the channel ids as a read-only array."""
    channel_ids = np.fromiter(given, np.int32, len(given))
    channel_ids.flags.writeable = False
    return channel_ids


def _by_name(values: Mapping[str, _Value]) -> dict[str, _Value]:
    """Sort a message's map by name: its own order differs between processes."""
    return dict(sorted(values.items()))


def _summary(message: pb.ModelSummary) -> ModelSummary:
    return ModelSummary(message.name, message.version, message.class_count, message.phrase_count)
