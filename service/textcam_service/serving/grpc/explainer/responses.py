"""From the domain's values to the contract's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client._heatmaps.view import Peak

from textcam_service.core.methods import Capability, Method, MethodSettings
from textcam_service.core.types import (
    Float32Array,
    Phrase,
    Prediction,
    Rationale,
    SaliencyGroup,
    UInt8Array,
)
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.method_runner import MethodResult
from textcam_service.serving.grpc.explainer.heatmaps import HeatmapEncoder, ImageInfo, require_room
from textcam_service.version import __version__

# A stream's answer repeats the request id around the response; the timings come last.
_ENVELOPE_BYTES = 1024


def prediction_message(prediction: Prediction) -> types_pb.Prediction:
    """A prediction as a message."""
    return types_pb.Prediction(
        class_index=prediction.class_index,
        class_name=prediction.class_name,
        probability=prediction.probability,
        logit=prediction.logit,
    )


def explanation_message(
    target: Prediction,
    reference: Prediction | None,
    rationale: Rationale,
    spoken: str,
    drawing: HeatmapEncoder,
    found: MethodResult,
) -> pb.Explanation:
    """One target's rationale as a message, with maps and heatmaps as the drawing's job wants them.

    Raises:
        DeadlineExpired: See HeatmapEncoder.draw.
        ResponseTooLarge: See HeatmapEncoder.draw.
    """
    peak = drawing.peak(rationale.saliency_map)
    message = pb.Explanation(
        target=prediction_message(target),
        logit=rationale.logit,
        bias=rationale.bias,
        gap=rationale.gap,
        network_passes=found.network_passes,
        head_passes=found.head_passes,
        phrases=[_phrase_message(phrase) for phrase in rationale.phrases],
        groups=[_group_message(group, drawing, peak) for group in rationale.groups]
        if drawing.job.groups
        else [],
        rest=_group_message(rationale.rest, drawing, peak),
        sentence=spoken,
        in_logit_units=rationale.in_logit_units,
    )
    if reference is not None:
        message.reference.CopyFrom(prediction_message(reference))
    _add_maps(message, rationale.saliency_map, drawing, peak)
    return message


def _phrase_message(phrase: Phrase) -> types_pb.Phrase:
    fields = asdict(phrase)
    kind = fields.pop("kind")
    name = f"PHRASE_KIND_{kind.upper() or 'UNSPECIFIED'}"
    return types_pb.Phrase(**fields, kind=types_pb.PhraseKind.Value(name))


def _group_message(
    group: SaliencyGroup, drawing: HeatmapEncoder, peak: Peak
) -> types_pb.SaliencyGroup:
    message = types_pb.SaliencyGroup(
        phrase_index=group.phrase_index,
        channel_ids=group.channel_ids.tolist(),
        evidence=group.evidence,
        evidence_for=group.evidence_for,
        evidence_against=group.evidence_against,
    )
    if drawing.job.groups:
        _add_maps(message, group.saliency_map, drawing, peak)
        if group.relative_map is not None and drawing.job.heatmap != types_pb.HEATMAP_FORM_NONE:
            message.relative_map.CopyFrom(tensor_message(group.relative_map))
    return message


def _add_maps(
    message: pb.Explanation | types_pb.SaliencyGroup,
    saliency_map: Float32Array,
    drawing: HeatmapEncoder,
    peak: Peak,
) -> None:
    form = drawing.job.heatmap
    if form == types_pb.HEATMAP_FORM_NONE:
        return
    message.saliency_map.CopyFrom(tensor_message(saliency_map))
    if form != types_pb.HEATMAP_FORM_SALIENCY:
        message.heatmap.CopyFrom(drawing.draw(saliency_map, peak))


def map_count(rationales: Iterable[Rationale], groups: bool) -> int:
    """How many heatmaps an answer has: one per target and, with groups, one of each and the rest.

    Args:
        rationales: The targets'.
        groups: Whether maps per phrase are wanted.
    """
    return sum(1 + (len(rationale.groups) + 1 if groups else 0) for rationale in rationales)


def tensor_message(array: Float32Array | UInt8Array) -> types_pb.Tensor:
    """A float32 or uint8 array as a message."""
    dtype = (
        types_pb.Tensor.D_TYPE_UINT8 if array.dtype == np.uint8 else types_pb.Tensor.D_TYPE_FLOAT32
    )
    return types_pb.Tensor(
        dtype=dtype,
        shape=array.shape,
        data=np.ascontiguousarray(array).astype("<" + array.dtype.str[1:], copy=False).tobytes(),
    )


def response_message(
    request_id: str,
    predictions: Sequence[Prediction],
    explanations: Sequence[pb.Explanation],
    scene: ImageInfo,
    bundle: ModelBundle,
    method: Method,
    degradations: Sequence[types_pb.Degradation],
) -> pb.ExplainResponse:
    """The whole answer, but for its timings."""
    crop = scene.crop
    return pb.ExplainResponse(
        request_id=request_id,
        predictions=[prediction_message(prediction) for prediction in predictions],
        explanations=explanations,
        image_height=scene.height,
        image_width=scene.width,
        crop=types_pb.Crop(**asdict(crop)),
        provenance=provenance_message(bundle, method, scene.decoder),
        degradations=degradations,
    )


def timings_message(stage_seconds: Mapping[str, float]) -> types_pb.Timings:
    """Turn seconds by stage into a message; a stage that is absent stays unset."""
    durations = {name: Duration() for name in stage_seconds}
    for name, duration in durations.items():
        duration.FromNanoseconds(round(stage_seconds[name] * 1e9))
    return types_pb.Timings(**durations)


def check_size(response: pb.ExplainResponse, scene: ImageInfo, max_bytes: int) -> None:
    """Refuse an answer that gRPC would not send.

    Args:
        response: The whole answer.
        scene: Of its image.
        max_bytes: Of a message.

    Raises:
        ResponseTooLarge: It is over the limit; the message says what to leave out.
    """
    size = response.ByteSize() + _ENVELOPE_BYTES
    require_room(size, max_bytes, len(response.explanations), scene)


def provenance_message(
    bundle: ModelBundle, method: Method, decoder: str = ""
) -> types_pb.Provenance:
    """What makes a bundle's answers."""
    numbers = asdict(MethodSettings())
    chosen = {f"method.{name}": str(numbers[name]) for name in method.parameters}
    manifest = bundle.backbone.manifest
    further = manifest.layers if Capability.LAYERS in method.needs else ()
    return types_pb.Provenance(
        model_name=bundle.name,
        model_version=bundle.version,
        backbone_digest=manifest.weights_digest,
        bank_digest=bundle.artefact.bank_digest,
        vocabulary_digest=bundle.artefact.vocabulary_digest,
        service_version=__version__,
        decoder=decoder,
        execution_provider=bundle.backbone.execution_provider,
        method=method_number(method),
        parameters={**bundle.parameters(), **chosen},
        layers=[manifest.target_layer, *further],
        head_kind=manifest.head_kind,
        calibration=_calibration_message(bundle),
    )


def _calibration_message(bundle: ModelBundle) -> types_pb.Calibration | None:
    calibration = bundle.calibration
    if calibration is None:
        return None
    return types_pb.Calibration(
        source=calibration.source,
        images=calibration.images,
        min_probability=bundle.settings.min_probability,
        expected_calibration_error=calibration.expected_error,
        bins=[types_pb.Calibration.Bin(**asdict(each)) for each in calibration.bins],
    )


def summary_message(bundle: ModelBundle) -> pb.ModelSummary:
    """A bundle in short."""
    return pb.ModelSummary(
        name=bundle.name,
        version=bundle.version,
        class_count=len(bundle.class_names),
        phrase_count=len(bundle.phrases),
    )


def model_message(bundle: ModelBundle) -> pb.GetModelResponse:
    """A bundle in full."""
    manifest = bundle.backbone.manifest
    fields: dict[str, Any] = {
        "architecture": manifest.architecture,
        "target_layer": manifest.target_layer,
        "input_height": manifest.preprocessing.height,
        "input_width": manifest.preprocessing.width,
        "map_height": manifest.map_height,
        "map_width": manifest.map_width,
        "channel_count": manifest.channel_count,
    }
    return pb.GetModelResponse(
        summary=summary_message(bundle),
        class_names=bundle.class_names,
        vocabulary=bundle.phrases,
        dead_channel_count=int(bundle.artefact.bank.dead.sum()),
        provenance=provenance_message(bundle, bundle.default_method),
        methods=[method_number(method) for method in bundle.methods],
        **fields,
    )


def method_number(method: Method) -> types_pb.CamMethod:
    """A method's number in the contract."""
    number: types_pb.CamMethod = types_pb.CamMethod.Value(f"CAM_METHOD_{method.name.upper()}")
    return number
