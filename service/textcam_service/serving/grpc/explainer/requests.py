"""From the contract's requests to the domain's values; their checks stand here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.core.methods import Method, MethodSettings
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.core.types import PHRASE_KINDS, UInt8Array
from textcam_service.errors import (
    EmptyImage,
    InvalidArgument,
    InvalidTensor,
    UnknownClass,
    UnsupportedMethod,
)
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.settings import ServerSettings

MAX_REQUEST_ID = 128
DEFAULT_PREDICTIONS = 5


@dataclass(frozen=True)
class TopK:
    """Explain the k most probable classes."""

    k: int


@dataclass(frozen=True)
class Classes:
    """Explain these classes, each rather than `reference` where that is given."""

    indices: tuple[int, ...]
    reference: int | None = None


@dataclass(frozen=True)
class Job:
    """A request that was checked.

    Attributes:
        encoded: The image file, or None.
        pixels: (h, w, 3) uint8, or None; exactly one of the two is given.
        target: What is to be explained.
        wish: What is wanted of the words.
        groups: Whether maps per phrase are wanted.
        heatmap: The form of heatmaps.
        predictions: How many predictions to list.
        method: The CAM method.
        may_degrade: Whether less will do where the server is under pressure.
    """

    encoded: bytes | None
    pixels: UInt8Array | None
    target: TopK | Classes
    wish: PhraseFilter
    groups: bool
    heatmap: types_pb.HeatmapForm
    predictions: int
    method: Method
    may_degrade: bool

    @property
    def target_count(self) -> int:
        """How many classes are explained."""
        return self.target.k if isinstance(self.target, TopK) else len(self.target.indices)


def read_request(request: pb.ExplainRequest, bundle: ModelBundle, limits: ServerSettings) -> Job:
    """Check a request, whose model is `bundle`.

    Raises:
        InvalidRequest: A field is out of range.
        UnknownClass: A class is unknown.
    """
    check_request_id(request.request_id)
    form = request.heatmap or types_pb.HEATMAP_FORM_SALIENCY
    if form not in types_pb.HeatmapForm.values():
        raise InvalidArgument(f"there is no heatmap form {form}", field="heatmap")
    predictions = DEFAULT_PREDICTIONS
    if request.HasField("prediction_count"):
        predictions = request.prediction_count
    classes = len(bundle.class_names)
    target = _read_target(request.target, bundle, limits)
    method = read_method(request.method, bundle)
    _check_passes(method, target, bundle, limits)
    return Job(
        encoded=request.encoded if request.WhichOneof("image") == "encoded" else None,
        pixels=_read_pixels(request),
        target=target,
        wish=_read_phrase_filter(request, bundle, limits),
        groups=request.include_groups if request.HasField("include_groups") else True,
        heatmap=form,
        predictions=min(_in_range(predictions, 0, None, "prediction_count"), classes),
        method=method,
        may_degrade=request.may_degrade,
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
    known = {
        types_pb.PhraseKind.Value(f"PHRASE_KIND_{kind.upper()}"): kind for kind in PHRASE_KINDS
    }
    for number in numbers:
        if number not in known:
            raise InvalidArgument(
                f"there is no kind of phrases {number}; there are {', '.join(PHRASE_KINDS)}",
                field="kinds",
            )
    kinds = frozenset(known[number] for number in numbers)
    if kinds and not any(bundle.kinds):
        raise InvalidArgument(
            f"the vocabulary of model '{bundle.name}' says no kinds of phrases; leave kinds out",
            field="kinds",
        )
    return kinds


def check_request_id(request_id: str, field: str = "request_id") -> None:
    """Refuse what is too long to be held, logged and echoed.

    Raises:
        InvalidArgument: It has more than MAX_REQUEST_ID characters.
    """
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidArgument(
            f"a request id has at most {MAX_REQUEST_ID} characters, not {len(request_id)}",
            field=field,
        )


def read_lane(lane: types_pb.Lane, default: Lane) -> Lane:
    """Who waits; `default` where the request does not say.

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
    """The CAM method of a number; the model's default where the request names none.

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


def _check_passes(
    method: Method, target: TopK | Classes, bundle: ModelBundle, limits: ServerSettings
) -> None:
    manifest = bundle.backbone.manifest
    size = (manifest.channel_count, manifest.cells, MethodSettings())
    targets = target.k if isinstance(target, TopK) else len(target.indices)
    head = 0 if bundle.backbone.is_linear else method.head_passes(*size)
    passes = targets * (method.image_passes(*size) + head)
    if passes > limits.max_passes:
        raise InvalidArgument(
            f"{method.title} takes up to {passes} passes for {targets} target(s) of this model, "
            f"but this server allows {limits.max_passes}; ask for fewer targets or another method",
            field="method",
        )


def method_name(number: types_pb.CamMethod) -> str:
    """A method's name, by its number in the contract: "grad_cam"."""
    return str(types_pb.CamMethod.Name(number)).removeprefix("CAM_METHOD_").lower()


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
    tensor = request.pixels
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
) -> TopK | Classes:
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
        return Classes((chosen,), reference)
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
