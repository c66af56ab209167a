"""Tensors of the Open Inference Protocol v2 and numpy arrays."""

from __future__ import annotations

import math
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
_INPUTS = ("BYTES", "UINT8")


def read_input(request: oip.ModelInferRequest, place: int) -> Array:
    """An input as an array of its shape; elements of BYTES are bytes.

    Raises:
        InvalidTensor: Type, shape and contents do not agree.
    """
    tensor, field = request.inputs[place], f"inputs[{place}]"
    if tensor.datatype not in _INPUTS:
        raise InvalidTensor(
            f"'{tensor.name}' is of type {' or '.join(_INPUTS)}, not '{tensor.datatype}'",
            field=f"{field}.datatype",
        )
    shape = tuple(tensor.shape)
    if not shape or min(shape) < 1:
        raise InvalidTensor(f"shape {list(shape)} holds nothing", field=f"{field}.shape")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidTensor(
            f"{len(request.inputs)} inputs, but {len(raw)} raw contents", field="raw_input_contents"
        )
    kind, contents = _KINDS[tensor.datatype]
    if raw and tensor.datatype == "BYTES":
        found: list[Any] = _split(raw[place])
    elif raw:
        return _shaped(np.frombuffer(raw[place], kind), shape, field)
    else:
        found = list(getattr(tensor.contents, contents))
    if tensor.datatype == "UINT8" and found and max(found) > 255:
        raise InvalidTensor("a uint8 is at most 255", field=f"{field}.contents")
    flat = np.empty(len(found), kind)
    flat[:] = found
    return _shaped(flat, shape, field)


def _shaped(flat: Array, shape: tuple[int, ...], field: str) -> Array:
    if len(flat) != math.prod(shape):
        raise InvalidTensor(
            f"shape {list(shape)} takes {math.prod(shape)} elements, but there are {len(flat)}",
            field=f"{field}.shape",
        )
    return flat.reshape(shape)


def _split(raw: bytes) -> list[bytes]:
    """Elements of BYTES, each after its length (uint32, little-endian)."""
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at) if at + 4 <= len(raw) else (len(raw),)
        end = at + 4 + length
        if end > len(raw):
            raise InvalidTensor(
                "elements of BYTES follow their length as a little-endian uint32; these end early",
                field="raw_input_contents",
            )
        found.append(raw[at + 4 : end])
        at = end
    return found


def add_output(
    response: oip.ModelInferResponse, name: str, datatype: str, array: Array, *, raw: bool
) -> None:
    """Add an output, raw or as typed contents."""
    tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
    kind, contents = _KINDS[datatype]
    flat = array.reshape(-1).astype(kind)
    if not raw:
        getattr(tensor.contents, contents).extend(flat.tolist())
    elif datatype == "BYTES":
        packed = b"".join(struct.pack("<I", len(element)) + element for element in flat)
        response.raw_output_contents.append(packed)
    else:
        response.raw_output_contents.append(flat.tobytes())
