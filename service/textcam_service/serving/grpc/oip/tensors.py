"""Tensors of the Open Inference Protocol v2 and numpy arrays."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from textcam.oip import open_inference_pb2 as oip

from textcam_service.errors import InvalidTensor

Array: TypeAlias = NDArray[Any]

# By data type: numpy's, and the field of InferTensorContents.
_KINDS: dict[str, tuple[Any, str]] = {
    "UINT8": (np.dtype("<u1"), "uint_contents"),
    "INT64": (np.dtype("<i8"), "int64_contents"),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
    "BYTES": (np.dtype(object), "bytes_contents"),
}
_BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/=_\s-]{24}|[A-Za-z0-9+/=_\s-]*$")
# As JPEG, PNG, WebP and AVIF begin in base64, and URLs that hold a file.
_BASE64_IMAGES = (b"/9j/", b"iVBORw0KGgo", b"UklGR", b"AAAA", b"data:image/")
_MOST_DIMENSIONS = 4
_PIECE = 2**16


def read_shape(request: oip.ModelInferRequest, place: int, datatype: str) -> tuple[int, ...]:
    """Read the shape of an input of type `datatype`; its contents are only counted.

    Raises:
        InvalidTensor: Another type, an extent below 1, no dimensions or too many, contents that
            are given twice, in another type's field, or in a number that the shape does not take.
    """
    tensor, field = request.inputs[place], f"inputs[{place}]"
    if tensor.datatype != datatype:
        raise InvalidTensor(
            f"'{tensor.name}' is of type {datatype}, not '{tensor.datatype}'",
            field=f"{field}.datatype",
        )
    if len(tensor.shape) > _MOST_DIMENSIONS:
        raise InvalidTensor(
            f"a shape has at most {_MOST_DIMENSIONS} dimensions, not {len(tensor.shape)}",
            field=f"{field}.shape",
        )
    shape = tuple(tensor.shape)
    if not shape or min(shape) < 1:
        raise InvalidTensor(f"shape {list(shape)} holds nothing", field=f"{field}.shape")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidTensor(
            f"{len(request.inputs)} inputs, but {len(raw)} raw contents", field="raw_input_contents"
        )
    if raw and tensor.contents.ListFields():
        raise InvalidTensor(
            f"the contents of '{tensor.name}' are there twice; send them in raw_input_contents or "
            "in contents",
            field=f"{field}.contents",
        )
    own = _KINDS[datatype][1]
    if others := [kind.name for kind, _ in tensor.contents.ListFields() if kind.name != own]:
        raise InvalidTensor(
            f"the contents of '{tensor.name}' stand in {own}; leave out {', '.join(others)}",
            field=f"{field}.contents",
        )
    if not (raw and datatype == "BYTES"):  # those are counted as they are taken apart
        found = len(raw[place]) if raw else len(getattr(tensor.contents, own))
        _require_count(found, shape, field)
    return shape


def read_pixels(request: oip.ModelInferRequest, place: int, shape: tuple[int, ...]) -> Array:
    """Read an input of UINT8 into an array of the shape that read_shape() returned.

    Raises:
        InvalidTensor: An element is no uint8.
    """
    if request.raw_input_contents:
        return np.frombuffer(request.raw_input_contents[place], np.uint8).reshape(shape)
    contents = request.inputs[place].contents.uint_contents
    flat = np.empty(len(contents), np.uint8)
    for at in range(0, len(contents), _PIECE):  # in pieces, between which other threads run
        piece = np.array(contents[at : at + _PIECE], np.uint32)
        if piece.max() > 255:
            raise InvalidTensor("a uint8 is at most 255", field=f"inputs[{place}].contents")
        flat[at : at + _PIECE] = piece
    return flat.reshape(shape)


def read_bytes(request: oip.ModelInferRequest, place: int, shape: tuple[int, ...]) -> list[bytes]:
    """Read the elements of an input of BYTES, of the shape that read_shape() returned.

    Raises:
        InvalidTensor: Raw contents are malformed, or not as many as the shape takes.
    """
    if not request.raw_input_contents:
        return list(request.inputs[place].contents.bytes_contents)
    raw, count = request.raw_input_contents[place], math.prod(shape)
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) <= count:
        # Each after its length: uint32, little-endian.
        (length,) = struct.unpack_from("<I", raw, at) if at + 4 <= len(raw) else (len(raw),)
        end = at + 4 + length
        if end > len(raw):
            raise InvalidTensor(
                "elements of BYTES follow their length as a little-endian uint32; these end early",
                field="raw_input_contents",
            )
        found.append(raw[at + 4 : end])
        at = end
    _require_count(len(found), shape, f"inputs[{place}]")
    return found


def decode_base64(element: bytes, place: int) -> bytes:
    """Decode an element of BYTES that is base64; one that is a file as it stands stays.

    Args:
        element: Its bytes.
        place: Of the element, for the message.

    Raises:
        InvalidTensor: It is text, but not valid base64.
    """
    try:
        return base64.b64decode(b"".join(element.split()), validate=True)
    except binascii.Error as error:
        if _BASE64_TEXT.match(element):
            raise InvalidTensor(
                f"element {place} is not valid base64, which its content_type says; encode the "
                "file's bytes by the standard alphabet, with padding",
                field="inputs[0].contents",
            ) from error
        return element


def refuse_base64(element: bytes, place: int) -> None:
    """Refuse an element that begins as an image in base64 does; no image file begins so.

    Raises:
        InvalidTensor: It does.
    """
    if element.startswith(_BASE64_IMAGES):
        raise InvalidTensor(
            f"element {place} is an image as base64 text; send the file's bytes, or say "
            "content_type 'base64' in the input's parameters",
            field="inputs[0].contents",
        )


def _require_count(found: int, shape: tuple[int, ...], field: str) -> None:
    wanted = math.prod(shape)
    if found != wanted:
        many = f"{found}" if found < wanted else "more"
        raise InvalidTensor(
            f"shape {list(shape)} takes {wanted} elements, but there are {many}",
            field=f"{field}.shape",
        )


def numpy_type(datatype: str) -> np.dtype[Any]:
    """Return numpy's type of a data type."""
    kind: np.dtype[Any] = _KINDS[datatype][0]
    return kind


def add_output(
    response: oip.ModelInferResponse, name: str, datatype: str, array: Array, *, raw: bool
) -> None:
    """Add an output, raw or as typed contents.

    Args:
        response: Response that gets the output.
        name: Name of the output.
        datatype: Data type of the output.
        array: Array of numpy_type(datatype).
        raw: True for raw contents.
    """
    tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
    if not raw:
        getattr(tensor.contents, _KINDS[datatype][1]).extend(array.reshape(-1).tolist())
    elif datatype == "BYTES":
        elements = array.reshape(-1)
        packed = b"".join(struct.pack("<I", len(element)) + element for element in elements)
        response.raw_output_contents.append(packed)
    else:
        response.raw_output_contents.append(array.tobytes())
