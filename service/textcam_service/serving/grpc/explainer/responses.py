"""Encoder of the contract's responses: the domain's values to messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client._heatmaps.view import Peak

from textcam_service.core.methods import Capability, Method, MethodSettings
from textcam_service.core.types import (
    PHRASE_KINDS,
    Float32Array,
    Phrase,
    Prediction,
    SaliencyGroup,
    UInt8Array,
)
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.cancellation import CancellationToken
from textcam_service.serving.engine.jobs import Degradation, ExplainJob, HeatmapForm
from textcam_service.serving.engine.results import ExplainResult, ImageInfo, TargetResult
from textcam_service.serving.grpc.explainer.heatmaps import (
    HeatmapEncoder,
    check_map_count,
    check_message_size,
)
from textcam_service.version import __version__

# A stream's response repeats the request id around the message; the timings come last.
_ENVELOPE_BYTES = 1024
_REMEMBERED = 64  # models and methods with their provenance kept encoded
_KINDS = {"": types_pb.PHRASE_KIND_UNSPECIFIED} | {
    kind: types_pb.PhraseKind.Value(f"PHRASE_KIND_{kind.upper()}") for kind in PHRASE_KINDS
}
_DEGRADATIONS = {own: types_pb.Degradation.Value(f"DEGRADATION_{own.name}") for own in Degradation}


class ResponseEncoder:
    """Encodes results as ExplainResponse, without the timings; see add_timings().

    Args:
        max_bytes: Limit of a message.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # By model and method: it takes as long to encode as an explanation does.
        self._provenance: dict[tuple[str, ...], types_pb.Provenance] = {}

    def check(self, job: ExplainJob, image: ImageInfo, map_count: int) -> None:
        """Refuse heatmaps that cannot fit a message; see heatmaps.check_map_count()."""
        check_map_count(job, image, map_count, self._max_bytes)

    def encode(self, result: ExplainResult, token: CancellationToken) -> pb.ExplainResponse:
        """Encode a result.

        Raises:
            ResponseTooLarge: The message says what to leave out.
            DeadlineExpired: See HeatmapEncoder.draw.
        """
        job, image = result.job, result.image
        self.check(job, image, result.map_count)
        drawing = HeatmapEncoder(job, image, token, self._max_bytes)
        response = pb.ExplainResponse(
            request_id=job.request_id,
            predictions=[prediction_message(own) for own in result.predictions],
            explanations=[explanation_message(own, job, drawing) for own in result.explanations],
            image_height=image.height,
            image_width=image.width,
            crop=types_pb.Crop(**vars(image.crop)),
            provenance=self._provenance_of(result.bundle, job.method),
            degradations=[_DEGRADATIONS[own] for own in result.degradations],
        )
        response.provenance.decoder = image.decoder
        if job.include_channel_evidence:
            response.digests.pixels = image.pixels_digest
            response.digests.activations = result.activations_digest
        size = response.ByteSize() + _ENVELOPE_BYTES
        check_message_size(size, self._max_bytes, len(response.explanations), image)
        return response

    def _provenance_of(self, bundle: ModelBundle, method: Method) -> types_pb.Provenance:
        """Return the encoded provenance of a model and a method, made once."""
        artefact, weights = bundle.artefact, bundle.backbone.manifest.weights_digest
        digests = (weights, artefact.bank_digest, artefact.vocabulary_digest)
        key = (bundle.name, bundle.version, *digests, method.name)
        known = self._provenance.get(key)
        if known is None:
            if len(self._provenance) >= _REMEMBERED:
                self._provenance.clear()
            known = self._provenance[key] = provenance_message(bundle, method)
        return known


def add_timings(response: pb.ExplainResponse, stage_seconds: Mapping[str, float]) -> None:
    """Add the seconds of all stages, encoding included, once they are known."""
    for name, seconds in stage_seconds.items():
        getattr(response.timings, name).FromNanoseconds(round(seconds * 1e9))


def prediction_message(prediction: Prediction) -> types_pb.Prediction:
    """Encode a prediction."""
    return types_pb.Prediction(
        class_index=prediction.class_index,
        class_name=prediction.class_name,
        probability=prediction.probability,
        logit=prediction.logit,
    )


def explanation_message(
    result: TargetResult, job: ExplainJob, drawing: HeatmapEncoder
) -> pb.Explanation:
    """Encode one target's result, with maps and heatmaps in the job's form.

    Raises:
        DeadlineExpired: See HeatmapEncoder.draw.
        ResponseTooLarge: See HeatmapEncoder.draw.
    """
    rationale = result.rationale
    peak = drawing.peak(rationale.saliency_map)
    message = pb.Explanation(
        target=prediction_message(result.target),
        logit=rationale.logit,
        bias=rationale.bias,
        gap=rationale.gap,
        network_passes=result.network_passes,
        head_passes=result.head_passes,
        phrases=[_phrase_message(phrase) for phrase in rationale.phrases],
        groups=[_group_message(group, job, drawing, peak) for group in rationale.groups]
        if job.include_groups
        else [],
        rest=_group_message(rationale.rest, job, drawing, peak),
        sentence=result.sentence,
        in_logit_units=rationale.in_logit_units,
    )
    if result.reference is not None:
        message.reference.CopyFrom(prediction_message(result.reference))
    if job.include_channel_evidence:
        evidence = rationale.channel_evidence.astype(np.float32)
        message.channel_evidence.CopyFrom(tensor_message(evidence))
    _add_maps(message, rationale.saliency_map, job, drawing, peak)
    return message


def _phrase_message(phrase: Phrase) -> types_pb.Phrase:
    fields = {**vars(phrase), "kind": _KINDS[phrase.kind]}
    return types_pb.Phrase(**fields)


def _group_message(
    group: SaliencyGroup, job: ExplainJob, drawing: HeatmapEncoder, peak: Peak
) -> types_pb.SaliencyGroup:
    message = types_pb.SaliencyGroup(
        phrase_index=group.phrase_index,
        channel_ids=group.channel_ids.tolist(),
        evidence=group.evidence,
        evidence_for=group.evidence_for,
        evidence_against=group.evidence_against,
    )
    if job.include_groups:
        _add_maps(message, group.saliency_map, job, drawing, peak)
        if group.relative_map is not None and job.heatmap is not HeatmapForm.NONE:
            message.relative_map.CopyFrom(tensor_message(group.relative_map))
    return message


def _add_maps(
    message: pb.Explanation | types_pb.SaliencyGroup,
    saliency_map: Float32Array,
    job: ExplainJob,
    drawing: HeatmapEncoder,
    peak: Peak,
) -> None:
    if job.heatmap is HeatmapForm.NONE:
        return
    message.saliency_map.CopyFrom(tensor_message(saliency_map))
    if job.heatmap is not HeatmapForm.SALIENCY:
        message.heatmap.CopyFrom(drawing.draw(saliency_map, peak))


def tensor_message(array: Float32Array | UInt8Array) -> types_pb.Tensor:
    """Encode a float32 or uint8 array."""
    dtype = (
        types_pb.Tensor.D_TYPE_UINT8 if array.dtype == np.uint8 else types_pb.Tensor.D_TYPE_FLOAT32
    )
    return types_pb.Tensor(
        dtype=dtype,
        shape=array.shape,
        data=np.ascontiguousarray(array).astype("<" + array.dtype.str[1:], copy=False).tobytes(),
    )


def provenance_message(bundle: ModelBundle, method: Method) -> types_pb.Provenance:
    """Encode what makes a model's explanations; the decoder is the image's own."""
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
    """Encode a model in short."""
    return pb.ModelSummary(
        name=bundle.name,
        version=bundle.version,
        class_count=len(bundle.class_names),
        phrase_count=len(bundle.phrases),
    )


def model_message(bundle: ModelBundle) -> pb.GetModelResponse:
    """Encode a model in full."""
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
        multi_label=bundle.multi_label,
        channel_phrases=bundle.channel_phrases.tolist(),
        **fields,
    )


def method_number(method: Method) -> types_pb.CamMethod:
    """Return a method's number in the contract."""
    number: types_pb.CamMethod = types_pb.CamMethod.Value(f"CAM_METHOD_{method.name.upper()}")
    return number
