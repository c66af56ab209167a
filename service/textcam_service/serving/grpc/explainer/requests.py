"""Reader of the contract's requests: messages to the domain's values, with their checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.core.methods import Method
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import PHRASE_KINDS, UInt8Array
from textcam_service.errors import (
    EmptyImage,
    InvalidArgument,
    InvalidTensor,
    UnknownClass,
    UnsupportedMethod,
)
from textcam_service.imaging.formats import TAKEN
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.jobs import (
    DEFAULT_PREDICTIONS,
    Classes,
    Contrast,
    ExplainJob,
    HeatmapForm,
    ModelRef,
    TargetSpec,
    TopK,
    check_request_id,
)
from textcam_service.settings import ServerSettings

_FORMS = {
    types_pb.HEATMAP_FORM_UNSPECIFIED: HeatmapForm.SALIENCY,
    types_pb.HEATMAP_FORM_NONE: HeatmapForm.NONE,
    types_pb.HEATMAP_FORM_SALIENCY: HeatmapForm.SALIENCY,
    types_pb.HEATMAP_FORM_IMAGE: HeatmapForm.IMAGE,
    types_pb.HEATMAP_FORM_OVERLAY: HeatmapForm.OVERLAY,
}

_KINDS = {types_pb.PhraseKind.Value(f"PHRASE_KIND_{kind.upper()}"): kind for kind in PHRASE_KINDS}


def read_model(spec: types_pb.ModelSpec) -> ModelRef:
    """Read the model that a request names."""
    return ModelRef(spec.name, spec.version)


def read_job(
    request: pb.ExplainRequest, bundle: ModelBundle, settings: ServerSettings
) -> ExplainJob:
    """Check a request and read the job out of it.

    Args:
        request: The request as received.
        bundle: The model that it names.
        settings: Limits and defaults.

    Raises:
        InvalidRequest: A field is out of range.
        UnknownClass: The model has no such class.
    """
    check_request_id(request.request_id)
    if request.heatmap not in _FORMS:
        raise InvalidArgument(f"there is no heatmap form {request.heatmap}", field="heatmap")
    predictions = DEFAULT_PREDICTIONS
    if request.HasField("prediction_count"):
        predictions = request.prediction_count
    return ExplainJob(
        target=_read_target(request.target, bundle, settings),
        method=read_method(request.method, bundle),
        image=_read_image(request),
        phrase_filter=_read_phrase_filter(request, bundle, settings),
        heatmap=_FORMS[request.heatmap],
        include_groups=request.include_groups if request.HasField("include_groups") else True,
        prediction_count=min(
            _in_range(predictions, 0, None, "prediction_count"), len(bundle.class_names)
        ),
        may_degrade=request.may_degrade,
        request_id=request.request_id,
        include_channel_evidence=request.include_channel_evidence,
    )


def _read_phrase_filter(
    request: pb.ExplainRequest, bundle: ModelBundle, limits: ServerSettings
) -> PhraseFilter:
    phrases = limits.default_phrases
    if request.HasField("max_phrases"):
        phrases = request.max_phrases
    least = request.min_probability if request.HasField("min_probability") else None
    if least is not None and not 0 <= least <= 1:
        raise InvalidArgument(
            f"min_probability is from 0 to 1, not {least:g}", field="min_probability"
        )
    if least and bundle.calibration is None:
        raise InvalidArgument(
            f"the phrases of model '{bundle.name}' have no probabilities: its bank has no "
            "calibration, or is served by embeddings; leave min_probability out, or ask for a "
            "bank that `textcam bank build` made",
            field="min_probability",
        )
    return PhraseFilter(
        max_phrases=_in_range(phrases, 1, limits.max_phrases, "max_phrases"),
        min_probability=least,
        kinds=_read_kinds(request.kinds, bundle),
        repeat_class=True if request.repeat_class else None,
    )


def _read_kinds(numbers: Sequence[types_pb.PhraseKind], bundle: ModelBundle) -> frozenset[str]:
    for number in numbers:
        if number not in _KINDS:
            raise InvalidArgument(
                f"there is no kind of phrases {number}; there are {', '.join(PHRASE_KINDS)}",
                field="kinds",
            )
    kinds = frozenset(_KINDS[number] for number in numbers)
    if kinds and not any(bundle.kinds):
        raise InvalidArgument(
            f"the vocabulary of model '{bundle.name}' has no kinds of phrases; leave kinds out",
            field="kinds",
        )
    return kinds


def read_lane(lane: types_pb.Lane, default: Lane) -> Lane:
    """Read the lane of a request; `default` if it names none.

    Raises:
        InvalidArgument: There is no such lane.
    """
    known = {
        types_pb.LANE_UNSPECIFIED: default,
        types_pb.LANE_INTERACTIVE: Lane.INTERACTIVE,
        types_pb.LANE_AUDIT: Lane.AUDIT,
    }
    if lane not in known:
        raise InvalidArgument(f"there is no lane {lane}; give 1 or 2, or none", field="lane")
    return known[lane]


def read_method(number: types_pb.CamMethod, bundle: ModelBundle) -> Method:
    """Read a CAM method by its number; the model's default if the request names none.

    Raises:
        UnsupportedMethod: There is none of that number, or the model's backbone cannot answer it.
    """
    if number == types_pb.CAM_METHOD_UNSPECIFIED:
        return bundle.default_method
    if number not in types_pb.CamMethod.values():
        raise UnsupportedMethod(
            f"this server knows no CAM method of number {number} in the contract; model "
            f"'{bundle.name}' supports {', '.join(method.name for method in bundle.methods)}",
            field="method",
        )
    return bundle.method(method_name(number), "method")


def method_name(number: types_pb.CamMethod) -> str:
    """Return a method's name by its number in the contract: "grad_cam"."""
    return str(types_pb.CamMethod.Name(number)).removeprefix("CAM_METHOD_").lower()


def _read_image(request: pb.ExplainRequest) -> bytes | UInt8Array:
    kind = request.WhichOneof("image")
    if kind is None:
        raise EmptyImage(
            f"the request has no image: set 'encoded' to the bytes of a {TAKEN} file, "
            "or 'pixels' to an RGB tensor",
            field="image",
        )
    return request.encoded if kind == "encoded" else _read_pixels(request.pixels)


def _read_pixels(tensor: types_pb.Tensor) -> UInt8Array:
    if len(tensor.shape) != 3:
        raise InvalidTensor(
            f"pixels have shape [h, w, 3], not one of {len(tensor.shape):,} numbers",
            field="pixels.shape",
        )
    shape = tuple(tensor.shape)
    if tensor.dtype != types_pb.Tensor.D_TYPE_UINT8:
        raise InvalidTensor("pixels are uint8", field="pixels.dtype")
    if shape[2] != 3 or min(shape) < 1:
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


def _read_target(
    target: types_pb.Target, bundle: ModelBundle, limits: ServerSettings
) -> TargetSpec:
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
        pair = target.contrast
        chosen = _read_class(pair.target, bundle, "target.contrast.target")
        reference = _read_class(pair.reference, bundle, "target.contrast.reference")
        if chosen == reference:
            raise InvalidArgument(
                "a contrast needs two different classes", field="target.contrast.reference"
            )
        return Contrast(chosen, reference)
    return TopK(_in_range(target.top_k.k, 1, most, "target.top_k.k") if kind == "top_k" else 1)


def _read_class(ref: types_pb.ClassRef, bundle: ModelBundle, field: str) -> int:
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
