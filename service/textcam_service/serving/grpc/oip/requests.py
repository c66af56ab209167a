"""From a ModelInfer's inputs and parameters to ExplainRequests, one for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textcam.oip import open_inference_pb2 as oip
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_service.errors import (
    BatchTooLarge,
    InvalidArgument,
    InvalidRequest,
    InvalidTensor,
    UnknownClass,
)
from textcam_service.model.bundle import ModelBundle
from textcam_service.serving.grpc.explainer.requests import check_request_id
from textcam_service.serving.grpc.explainer.responses import tensor_message
from textcam_service.serving.grpc.oip.outputs import outputs_of
from textcam_service.serving.grpc.oip.tensors import Array, read_bytes, read_pixels, read_shape
from textcam_service.settings import ServerSettings

IMAGE, PIXELS = "image", "pixels"
_DATATYPES = {IMAGE: "BYTES", PIXELS: "UINT8"}
_WHOLE = ("int64_param", "uint64_param")
# Of a request that platforms may add, and that say nothing about explaining.
_PASSED_OVER = {"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}
# Of its tensors: how a client's library encodes them over HTTP, or in itself.
_PASSED_OVER_BY_TENSOR = {"binary_data", "binary_data_size", "content_type"}
# Each pixel is held as a uint32, and as the uint8 that is made of it.
_TYPED_BYTES = 5
# Outputs that are there only where an answer has its groups' maps.
_WITH_GROUPS = {"group_maps", "rest_map"}


@dataclass(frozen=True)
class Batch:
    """What a ModelInfer asks for, its images aside.

    Attributes:
        count: How many images.
        size: Bytes that the request takes while it is worked on.
        shape: Of the input.
        outputs: Names of the outputs that are asked for, in order.
        template: An ExplainRequest without its image.
    """

    count: int
    size: int
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    template: pb.ExplainRequest


def read_batch(
    request: oip.ModelInferRequest, bundle: ModelBundle, settings: ServerSettings
) -> Batch:
    """Read all but the images, whose contents are not touched: quick, whatever the size.

    Raises:
        InvalidRequest: Inputs, outputs or parameters are not those of ModelMetadata.
        UnknownClass: The model has no such class.
    """
    check_request_id(request.id, "id")
    outputs = _read_outputs(request, bundle)
    template = _read_template(request, bundle, settings)
    template.include_groups = not _WITH_GROUPS.isdisjoint(outputs)
    template.prediction_count = len(bundle.class_names)
    shape, count = _read_input(request, settings)
    size = _size(request, shape, settings.max_bytes_in_work)
    return Batch(count, size, shape, outputs, template)


def charged_images(request: oip.ModelInferRequest, settings: ServerSettings) -> int:
    """What a request costs its caller, also where it is refused: its images, or 1 if it has none.

    At once, before anything is said of it: where a refusal kept a part of the price, a caller
    who asks again as soon as that much is there would never have the whole.
    """
    try:
        _, count = _read_input(request, settings)
    except InvalidRequest:
        return 1
    return count


def read_images(request: oip.ModelInferRequest, batch: Batch) -> Sequence[bytes | Array]:
    """The batch's images: files, or (h, w, 3) uint8.

    Raises:
        InvalidTensor: The contents are not what the input's type and shape say.
    """
    if request.inputs[0].name == IMAGE:
        return read_bytes(request, 0, batch.shape)
    pixels = read_pixels(request, 0, batch.shape)
    return list(pixels.reshape(batch.count, *batch.shape[-3:]))


def image_request(batch: Batch, image: bytes | Array) -> pb.ExplainRequest:
    """One image's request."""
    one = pb.ExplainRequest()
    one.CopyFrom(batch.template)
    if isinstance(image, bytes):
        one.encoded = image
    else:
        one.pixels.CopyFrom(tensor_message(image))
    return one


def _read_input(
    request: oip.ModelInferRequest, settings: ServerSettings
) -> tuple[tuple[int, ...], int]:
    """Shape of the one input, and how many images that is."""
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
    # Not of typed pixels, through which it would walk for half a second.
    parts = (request, tensor, *request.outputs)
    passed_over: int = sum(one.ByteSize() for part in parts for one in part.parameters.values())
    # By itself it is let in: else it would be told for ever that the server is busy.
    return min(_TYPED_BYTES * math.prod(shape) + passed_over, most)


def _check_parameters(tensor: Any, field: str) -> None:
    """Of a tensor that comes, or of one that is asked for."""
    for name in tensor.parameters:
        if name not in _PASSED_OVER_BY_TENSOR:
            raise InvalidArgument(
                f"the parameter '{name}' of '{tensor.name}' is not taken: tensors come whole, and "
                "within the messages; leave it out",
                field=f"{field}.parameters",
            )


def _count_pixel_images(shape: tuple[int, ...]) -> int:
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise InvalidTensor(
            f"'{PIXELS}' has shape [n, h, w, 3] or [h, w, 3], not {list(shape)}",
            field="inputs[0].shape",
        )
    return shape[0] if len(shape) == 4 else 1


def _read_outputs(request: oip.ModelInferRequest, bundle: ModelBundle) -> tuple[str, ...]:
    known = outputs_of(bundle, 0)
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
) -> pb.ExplainRequest:
    template = pb.ExplainRequest(
        request_id=request.id,
        heatmap=types_pb.HEATMAP_FORM_SALIENCY,
        max_phrases=settings.default_phrases,
    )
    for name, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value: Any = getattr(parameter, kind) if kind else None
        if name == "phrases" and kind in _WHOLE:
            if not 1 <= value <= settings.max_phrases:
                raise InvalidArgument(
                    f"'phrases' is {value}; give 1 to {settings.max_phrases}", field="parameters"
                )
            template.max_phrases = value
        elif name == "class" and kind in _WHOLE:
            last = len(bundle.class_names) - 1
            if not 0 <= value <= last:
                raise UnknownClass(
                    f"model '{bundle.name}' has classes 0 to {last}, not {value}",
                    field="parameters",
                )
            template.target.classes.classes.add(index=value)
        elif name == "class" and isinstance(value, str):
            template.target.classes.classes.add(name=value)
        elif name == "method" and isinstance(value, str):
            number = f"CAM_METHOD_{value.upper()}"
            if number not in types_pb.CamMethod.keys():  # noqa: SIM118 - an enum, not a mapping
                raise InvalidArgument(f"there is no CAM method '{value}'", field="parameters")
            template.method = types_pb.CamMethod.Value(number)
        elif name not in _PASSED_OVER:
            raise InvalidArgument(
                f"the parameter '{name}' is not taken as it stands; there are 'phrases' (int64), "
                "'class' (int64 or string) and 'method' (string)",
                field="parameters",
            )
    return template
