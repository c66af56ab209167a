"""Between the contract's messages and the domain's values; checks of requests stand here."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam_client.colormap import blend

from textcam_service.bundle import ModelBundle
from textcam_service.core.heatmap import heatmap, to_uint8
from textcam_service.core.methods import Method, MethodSettings
from textcam_service.core.types import (
    Crop,
    Float32Array,
    Prediction,
    Rationale,
    SaliencyGroup,
    UInt8Array,
)
from textcam_service.errors import (
    EmptyImage,
    InvalidArgument,
    InvalidTensor,
    UnknownClass,
    UnknownModel,
    UnknownVersion,
)
from textcam_service.imaging import DecodedImage
from textcam_service.serving.conversation import Found
from textcam_service.settings import ServerSettings
from textcam_service.version import __version__

MAX_REQUEST_ID = 128
DEFAULT_PREDICTIONS = 5


@dataclass(frozen=True)
class TopK:
    """Explain the k most probable classes."""

    k: int


@dataclass(frozen=True)
class Classes:
    """Explain these classes, each against another where `against` is given."""

    indices: tuple[int, ...]
    against: int | None = None


@dataclass(frozen=True)
class Job:
    """A request that was checked.

    Attributes:
        encoded: The image file, or None.
        pixels: (h, w, 3) uint8, or None; exactly one of the two is given.
        target: What is to be explained.
        phrases: How many phrases per target.
        groups: Whether maps per phrase are wanted.
        heatmap: The form of heatmaps.
        predictions: How many predictions to list.
        method: The CAM method.
    """

    encoded: bytes | None
    pixels: UInt8Array | None
    target: TopK | Classes
    phrases: int
    groups: bool
    heatmap: pb.HeatmapForm
    predictions: int
    method: Method


@dataclass(frozen=True)
class Scene:
    """The image behind an answer, and what the model saw of it."""

    image: DecodedImage
    crop: Crop


def read_model(spec: pb.ModelSpec, bundle: ModelBundle) -> None:
    """Check that the named model is the served one.

    Raises:
        UnknownModel: Another name.
        UnknownVersion: Another version.
    """
    if spec.name and spec.name != bundle.name:
        raise UnknownModel(
            f"no model '{spec.name}' is served here, only '{bundle.name}'", field="model.name"
        )
    if spec.version and spec.version != bundle.version:
        raise UnknownVersion(
            f"model '{bundle.name}' is served in version '{bundle.version}', "
            f"not '{spec.version}'; leave the version empty for the served one",
            field="model.version",
        )


def read_request(request: pb.ExplainRequest, bundle: ModelBundle, limits: ServerSettings) -> Job:
    """Check a request.

    Raises:
        InvalidRequest: A field is out of range.
        NotServed: A model, version or class is unknown.
    """
    if len(request.request_id) > MAX_REQUEST_ID:
        raise InvalidArgument(
            f"a request id has at most {MAX_REQUEST_ID} characters", field="request_id"
        )
    read_model(request.model, bundle)
    form = request.heatmap or pb.HEATMAP_FORM_SALIENCY
    if form not in pb.HeatmapForm.values():
        raise InvalidArgument(f"there is no heatmap form {form}", field="heatmap")
    phrases = request.phrases if request.HasField("phrases") else limits.default_phrases
    predictions = request.predictions if request.HasField("predictions") else DEFAULT_PREDICTIONS
    classes = len(bundle.class_names)
    target = _read_target(request.target, bundle, limits)
    method = _read_method(request.method, bundle)
    _check_passes(method, target, bundle, limits)
    return Job(
        encoded=request.encoded if request.WhichOneof("image") == "encoded" else None,
        pixels=_read_pixels(request),
        target=target,
        phrases=_in_range(phrases, 1, limits.max_phrases, "phrases"),
        groups=request.groups if request.HasField("groups") else True,
        heatmap=form,
        predictions=min(_in_range(predictions, 0, None, "predictions"), classes),
        method=method,
    )


def _read_method(number: pb.CamMethod, bundle: ModelBundle) -> Method:
    if number == pb.CAM_METHOD_UNSPECIFIED:
        return bundle.default_method
    if number not in pb.CamMethod.values():
        return bundle.method(f"number {number}", "method")  # says which there are
    return bundle.method(method_name(number), "method")


def _check_passes(
    method: Method, target: TopK | Classes, bundle: ModelBundle, limits: ServerSettings
) -> None:
    manifest = bundle.backbone.manifest
    cells = manifest.map_height * manifest.map_width
    size = (manifest.channel_count, cells, MethodSettings())
    targets = target.k if isinstance(target, TopK) else len(target.indices)
    head = 0 if bundle.backbone.is_linear else method.head_passes(*size)
    passes = targets * (method.image_passes(*size) + head)
    if passes > limits.max_passes:
        raise InvalidArgument(
            f"{method.title} takes up to {passes} passes for {targets} target(s) of this model, "
            f"but this server allows {limits.max_passes}; ask for fewer targets or another method",
            field="method",
        )


def method_name(number: pb.CamMethod) -> str:
    """A method's name, by its number in the contract: "grad_cam"."""
    return str(pb.CamMethod.Name(number)).removeprefix("CAM_METHOD_").lower()


def method_number(method: Method) -> pb.CamMethod:
    """A method's number in the contract."""
    number: pb.CamMethod = pb.CamMethod.Value(f"CAM_METHOD_{method.name.upper()}")
    return number


def read_image_field(request: pb.ExplainRequest) -> None:
    """Refuse a request without an image.

    Raises:
        EmptyImage: Neither `encoded` nor `pixels` is set.
    """
    if request.WhichOneof("image") is None:
        raise EmptyImage(
            "the request has no image: set 'encoded' to the bytes of a JPEG, PNG or WebP file, "
            "or 'pixels' to an RGB tensor",
            field="image",
        )


def _read_pixels(request: pb.ExplainRequest) -> UInt8Array | None:
    read_image_field(request)
    if request.WhichOneof("image") != "pixels":
        return None
    tensor, shape = request.pixels, tuple(request.pixels.shape)
    if tensor.dtype != pb.Tensor.D_TYPE_UINT8:
        raise InvalidTensor("pixels are uint8", field="pixels.dtype")
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise InvalidTensor(
            f"pixels have shape [h, w, 3] with h and w of at least 1, not {list(shape)}",
            field="pixels.shape",
        )
    if math.prod(shape) != len(tensor.data):
        raise InvalidTensor(
            f"shape {list(shape)} takes {math.prod(shape)} bytes, but data has {len(tensor.data)}",
            field="pixels.data",
        )
    return np.frombuffer(tensor.data, np.uint8).reshape(shape)


def _read_target(target: pb.Target, bundle: ModelBundle, limits: ServerSettings) -> TopK | Classes:
    kind = target.WhichOneof("of")
    most = min(limits.max_targets, len(bundle.class_names))
    if kind == "classes":
        refs = target.classes.classes
        _in_range(len(refs), 1, most, "target.classes.classes")
        return Classes(
            tuple(
                _read_class(ref, bundle, f"target.classes.classes[{place}]")
                for place, ref in enumerate(refs)
            )
        )
    if kind == "contrast":
        # `class` is a keyword of Python, hence getattr.
        chosen = _read_class(getattr(target.contrast, "class"), bundle, "target.contrast.class")
        against = _read_class(target.contrast.against, bundle, "target.contrast.against")
        if chosen == against:
            raise InvalidArgument(
                "a contrast needs two different classes", field="target.contrast.against"
            )
        return Classes((chosen,), against)
    return TopK(_in_range(target.top_k.k, 1, most, "target.top_k.k") if kind == "top_k" else 1)


def _read_class(ref: pb.ClassRef, bundle: ModelBundle, field: str) -> int:
    kind = ref.WhichOneof("by")
    if kind == "name":
        return bundle.class_index(ref.name, f"{field}.name")
    if kind is None:
        raise InvalidArgument("a class is named by its index or its name", field=field)
    if not 0 <= ref.index < len(bundle.class_names):
        raise UnknownClass(
            f"model '{bundle.name}' has classes 0 to {len(bundle.class_names) - 1}, "
            f"not {ref.index}",
            field=f"{field}.index",
        )
    return int(ref.index)


def _in_range(value: int, low: int, high: int | None, field: str) -> int:
    if value < low or (high is not None and value > high):
        span = f"{low} to {high}" if high is not None else f"{low} or more"
        raise InvalidArgument(f"{field} is {span}, not {value}", field=field)
    return value


# --- answers ------------------------------------------------------------------------


def prediction_message(prediction: Prediction) -> pb.Prediction:
    """A prediction as a message."""
    return pb.Prediction(
        class_index=prediction.class_index,
        class_name=prediction.class_name,
        probability=prediction.probability,
        logit=prediction.logit,
    )


def explanation_message(
    target: Prediction,
    against: Prediction | None,
    rationale: Rationale,
    spoken: str,
    job: Job,
    scene: Scene,
    found: Found,
) -> pb.Explanation:
    """One target's rationale as a message, with maps and heatmaps as the job wants them."""
    peak = float(np.maximum(rationale.saliency_map, 0).max())
    message = pb.Explanation(
        target=prediction_message(target),
        logit=rationale.logit,
        bias=rationale.bias,
        gap=rationale.gap,
        network_passes=found.network_passes,
        head_passes=found.head_passes,
        phrases=[
            pb.Phrase(
                text=phrase.text,
                vocabulary_index=phrase.vocabulary_index,
                score=phrase.score,
                similarity=phrase.similarity,
                evidence=phrase.evidence,
            )
            for phrase in rationale.phrases
        ],
        groups=[_group_message(group, job, scene, peak) for group in rationale.groups]
        if job.groups
        else [],
        rest=_group_message(rationale.rest, job, scene, peak),
        sentence=spoken,
    )
    if against is not None:
        message.against.CopyFrom(prediction_message(against))
    _add_maps(message, rationale.saliency_map, job, scene, peak)
    return message


def _group_message(group: SaliencyGroup, job: Job, scene: Scene, peak: float) -> pb.SaliencyGroup:
    message = pb.SaliencyGroup(
        phrase_index=group.phrase_index,
        channel_ids=group.channel_ids.astype("<i4").tobytes(),
        evidence=group.evidence,
        evidence_for=group.evidence_for,
        evidence_against=group.evidence_against,
    )
    if job.groups:
        _add_maps(message, group.saliency_map, job, scene, peak)
    return message


def _add_maps(
    message: pb.Explanation | pb.SaliencyGroup,
    saliency_map: Float32Array,
    job: Job,
    scene: Scene,
    peak: float,
) -> None:
    if job.heatmap == pb.HEATMAP_FORM_NONE:
        return
    message.saliency_map.CopyFrom(tensor_message(saliency_map))
    if job.heatmap == pb.HEATMAP_FORM_SALIENCY:
        return
    heat = heatmap(saliency_map, scene.crop, scene.image.height, scene.image.width, peak)
    if job.heatmap == pb.HEATMAP_FORM_IMAGE:
        message.heatmap.image.CopyFrom(tensor_message(to_uint8(heat)))
        return
    file = io.BytesIO()
    Image.fromarray(blend(np.asarray(scene.image.whole), heat)).save(file, "PNG", compress_level=1)
    message.heatmap.overlay_png = file.getvalue()


def tensor_message(array: Float32Array | UInt8Array) -> pb.Tensor:
    """A float32 or uint8 array as a message."""
    dtype = pb.Tensor.D_TYPE_UINT8 if array.dtype == np.uint8 else pb.Tensor.D_TYPE_FLOAT32
    return pb.Tensor(
        dtype=dtype,
        shape=array.shape,
        data=np.ascontiguousarray(array).astype("<" + array.dtype.str[1:]).tobytes(),
    )


def response_message(
    request_id: str,
    predictions: Sequence[Prediction],
    explanations: Sequence[pb.Explanation],
    scene: Scene,
    bundle: ModelBundle,
    method: Method,
    stage_seconds: Mapping[str, float],
) -> pb.ExplainResponse:
    """The whole answer."""
    crop = scene.crop
    return pb.ExplainResponse(
        request_id=request_id,
        predictions=[prediction_message(prediction) for prediction in predictions],
        explanations=explanations,
        image_height=scene.image.height,
        image_width=scene.image.width,
        crop=pb.Crop(**asdict(crop)),
        provenance=provenance_message(bundle, method, scene.image.decoder),
        stage_seconds=stage_seconds,
    )


def provenance_message(bundle: ModelBundle, method: Method, decoder: str = "") -> pb.Provenance:
    """What makes a bundle's answers."""
    numbers = asdict(MethodSettings())
    chosen = {f"method.{name}": str(numbers[name]) for name in method.parameters}
    return pb.Provenance(
        model_name=bundle.name,
        model_version=bundle.version,
        backbone_digest=bundle.backbone.manifest.weights_digest,
        bank_digest=bundle.artefact.bank_digest,
        vocabulary_digest=bundle.artefact.vocabulary_digest,
        service_version=__version__,
        decoder=decoder,
        execution_provider=bundle.backbone.execution_provider,
        method=method.name,
        parameters={**bundle.parameters(), **chosen},
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
        phrases=bundle.phrases,
        dead_channel_count=int(bundle.artefact.bank.dead.sum()),
        provenance=provenance_message(bundle, bundle.default_method),
        methods=[method_number(method) for method in bundle.methods],
        **fields,
    )
