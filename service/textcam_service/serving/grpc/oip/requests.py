"""Reader of ModelInfer requests: inputs and parameters to explain jobs, one for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from textcam.oip import open_inference_pb2 as oip

from textcam_service.core.methods import METHODS, Method
from textcam_service.core.rationale.settings import PhraseFilter
from textcam_service.errors import (
    BatchTooLarge,
    InvalidArgument,
    InvalidRequest,
    InvalidTensor,
    UnknownClass,
)
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.engine.jobs import (
    Classes,
    ExplainJob,
    ModelRef,
    TargetSpec,
    TopK,
    check_request_id,
)
from textcam_service.serving.grpc.oip.outputs import output_specs
from textcam_service.serving.grpc.oip.tensors import (
    Array,
    decode_base64,
    read_bytes,
    read_pixels,
    read_shape,
    refuse_base64,
)
from textcam_service.settings import ServerSettings

IMAGE, PIXELS = "image", "pixels"
_DATATYPES = {IMAGE: "BYTES", PIXELS: "UINT8"}
_SHOWN = 40  # characters of an unknown content type
_WHOLE = ("int64_param", "uint64_param")
# Parameters of requests that platforms add; they say nothing about explaining.
_PASSED_OVER = {"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}
# Parameters of tensors: how a client's library encodes them over HTTP, or in itself.
_PASSED_OVER_BY_TENSOR = {"binary_data", "binary_data_size"}
# How a client's library encodes elements: as they are, or files as base64.
_CONTENT_TYPE = "content_type"
_PLAIN, _BASE64 = {"", "np", "raw"}, {"base64", "pillow_image"}
# Each pixel is held as a uint32, and as the uint8 that is made of it.
_TYPED_BYTES = 5
# Outputs that need a map per phrase.
_WITH_GROUPS = {"group_maps", "rest_map"}


@dataclass(frozen=True)
class Batch:
    """Content of a ModelInfer request, its images aside.

    Attributes:
        count: Number of images.
        size: Bytes that the request takes while it is in work.
        shape: Shape of the input.
        outputs: Names of the requested outputs, in order.
        is_base64: Whether the images are files in base64.
        template: The job of each image, with an empty image.
    """

    count: int
    size: int
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    is_base64: bool
    template: ExplainJob

    def job(self, image: bytes | Array) -> ExplainJob:
        """Return the job of one image."""
        return replace(self.template, image=image)


def read_model(name: str, version: str) -> ModelRef:
    """Read the model that a request names."""
    return ModelRef(name, version)


def read_batch(
    request: oip.ModelInferRequest, bundle: ModelBundle, settings: ServerSettings
) -> Batch:
    """Read all but the images; their contents are not touched, so this is quick at any size.

    Raises:
        InvalidRequest: Inputs, outputs or parameters are not those of ModelMetadata.
        UnknownClass: The model has no such class.
    """
    check_request_id(request.id, "id")
    outputs = _read_outputs(request, bundle)
    template = _read_template(request, bundle, settings)
    groups = not _WITH_GROUPS.isdisjoint(outputs)
    shape, count = _read_input(request, settings)
    size = _size(request, shape, settings.max_bytes_in_work)
    is_base64 = _read_content_type(request) in _BASE64
    return Batch(count, size, shape, outputs, is_base64, replace(template, include_groups=groups))


def charged_images(request: oip.ModelInferRequest, settings: ServerSettings) -> int:
    """Return the charge of a request to its caller's rate: its images, or 1 if it has none.

    It is charged at once, also for a request that is refused. If a refusal charged only a part, a
    caller that retries as soon as that part is available would never reach the whole.
    """
    try:
        _, count = _read_input(request, settings)
    except InvalidRequest:
        return 1
    return count


def read_images(request: oip.ModelInferRequest, batch: Batch) -> Sequence[bytes | Array]:
    """Read the batch's images: files, or pixels (h, w, 3) uint8.

    Raises:
        InvalidTensor: The contents are not what the input's type and shape say.
    """
    if request.inputs[0].name == IMAGE:
        elements = read_bytes(request, 0, batch.shape)
        if batch.is_base64:
            return [decode_base64(each, place) for place, each in enumerate(elements)]
        for place, each in enumerate(elements):
            refuse_base64(each, place)
        return elements
    pixels = read_pixels(request, 0, batch.shape)
    return list(pixels.reshape(batch.count, *batch.shape[-3:]))


def _read_input(
    request: oip.ModelInferRequest, settings: ServerSettings
) -> tuple[tuple[int, ...], int]:
    """Read the shape of the one input, and its number of images."""
    if len(request.inputs) != 1 or request.inputs[0].name not in _DATATYPES:
        raise InvalidTensor(
            f"the one input is '{IMAGE}' (BYTES: image files) or '{PIXELS}' (UINT8: RGB)",
            field="inputs",
        )
    name = request.inputs[0].name
    _check_parameters(request.inputs[0], "inputs[0]")
    shape = read_shape(request, 0, _DATATYPES[name])
    count = math.prod(shape) if name == IMAGE else _count_pixel_images(shape)
    if count > settings.max_concurrent:
        raise BatchTooLarge(
            f"{count} images in one call, but this server takes at most {settings.max_concurrent}; "
            "send them in several calls",
            field="inputs[0].shape",
        )
    return shape, count


def _size(request: oip.ModelInferRequest, shape: tuple[int, ...], most: int) -> int:
    (tensor,) = request.inputs
    if tensor.name == IMAGE or request.raw_input_contents:
        return int(request.ByteSize())
    # ByteSize() of typed pixels would walk through them for half a second.
    parts = (request, tensor, *request.outputs)
    passed_over: int = sum(one.ByteSize() for part in parts for one in part.parameters.values())
    # Alone it is admitted; otherwise the server would always be too busy for it.
    return min(_TYPED_BYTES * math.prod(shape) + passed_over, most)


def _check_parameters(tensor: Any, field: str) -> None:
    """Check the parameters of an input or of a requested output."""
    for name, parameter in tensor.parameters.items():
        if name == _CONTENT_TYPE:
            _check_content_type(parameter, tensor.name, f"{field}.parameters")
        elif name not in _PASSED_OVER_BY_TENSOR:
            raise InvalidArgument(
                f"the parameter '{name}' of '{tensor.name}' is not supported: tensors come "
                "whole, and within the messages; leave it out",
                field=f"{field}.parameters",
            )


def _check_content_type(parameter: oip.InferParameter, tensor: str, field: str) -> None:
    """Check how a tensor is encoded: base64 stands for files alone, text for outputs of text."""
    given = parameter.string_param
    is_output = tensor not in _DATATYPES
    taken = _PLAIN | (_BASE64 if tensor == IMAGE else set()) | ({"str"} if is_output else set())
    if parameter.WhichOneof("parameter_choice") != "string_param" or given not in taken:
        listed = ", ".join(f"'{each}'" for each in sorted(taken - {""}))
        raise InvalidArgument(
            f"the content_type '{given[:_SHOWN]}' of '{tensor}' is not taken, only {listed}; leave "
            "it out where the elements are as ModelMetadata says",
            field=field,
        )


def _read_content_type(request: oip.ModelInferRequest) -> str:
    """Return the input's content type: its own, or else the request's; checked."""
    (tensor,) = request.inputs
    if _CONTENT_TYPE in tensor.parameters:
        return str(tensor.parameters[_CONTENT_TYPE].string_param)
    if _CONTENT_TYPE not in request.parameters:
        return ""
    _check_content_type(request.parameters[_CONTENT_TYPE], tensor.name, "parameters")
    return str(request.parameters[_CONTENT_TYPE].string_param)


def _count_pixel_images(shape: tuple[int, ...]) -> int:
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise InvalidTensor(
            f"'{PIXELS}' has shape [n, h, w, 3] or [h, w, 3], not {list(shape)}",
            field="inputs[0].shape",
        )
    return shape[0] if len(shape) == 4 else 1


def _read_outputs(request: oip.ModelInferRequest, bundle: ModelBundle) -> tuple[str, ...]:
    known = output_specs(bundle, 0)
    asked: list[str] = []
    for place, output in enumerate(request.outputs):
        if output.name not in known:
            fault = f"there is no output '{output.name}', only {', '.join(known)}"
        elif output.name in asked:
            fault = f"the output '{output.name}' is asked for twice; name it once"
        else:
            _check_parameters(output, f"outputs[{place}]")
            asked.append(output.name)
            continue
        raise InvalidArgument(fault, field=f"outputs[{place}].name")
    return tuple(asked) or tuple(known)


def _read_template(
    request: oip.ModelInferRequest, bundle: ModelBundle, settings: ServerSettings
) -> ExplainJob:
    phrases, method = settings.default_phrases, bundle.default_method
    target: TargetSpec = TopK(1)
    for name, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value: Any = getattr(parameter, kind) if kind else None
        if name == "max_phrases" and kind in _WHOLE:
            phrases = _read_phrases(value, settings)
        elif name == "class" and (kind in _WHOLE or isinstance(value, str)):
            target = Classes((_read_class(value, bundle),))
        elif name == "method" and isinstance(value, str):
            method = _read_method(value, bundle)
        elif name not in {*_PASSED_OVER, _CONTENT_TYPE}:
            raise InvalidArgument(
                f"the parameter '{name}' is not supported as given; there are 'max_phrases' "
                "(int64), 'class' (int64 or string) and 'method' (string)",
                field="parameters",
            )
    return ExplainJob(
        b"", method, PhraseFilter(phrases), target, prediction_count=0, request_id=request.id
    )


def _read_phrases(count: int, settings: ServerSettings) -> int:
    if not 1 <= count <= settings.max_phrases:
        raise InvalidArgument(
            f"'max_phrases' is {count}; give 1 to {settings.max_phrases}", field="parameters"
        )
    return count


def _read_class(given: int | str, bundle: ModelBundle) -> int:
    if isinstance(given, str):
        return bundle.class_index(given, "parameters")
    last = len(bundle.class_names) - 1
    if not 0 <= given <= last:
        raise UnknownClass(
            f"model '{bundle.name}' has classes 0 to {last}, not {given}", field="parameters"
        )
    return given


def _read_method(name: str, bundle: ModelBundle) -> Method:
    if name.lower() not in METHODS:
        raise InvalidArgument(f"there is no CAM method '{name}'", field="parameters")
    return bundle.method(name.lower(), "parameters")
