"""Tensors of the Open Inference Protocol as arrays; what is malformed is refused."""

import numpy as np
import pytest
from textcam.oip import open_inference_pb2 as oip
from textcam_service.errors import InvalidTensor
from textcam_service.serving.grpc.oip.tensors import (
    add_output,
    numpy_type,
    read_bytes,
    read_pixels,
    read_shape,
)


def request(datatype, shape, *, raw=(), **contents):
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="image",
        datatype=datatype,
        shape=shape,
        contents=oip.InferTensorContents(**contents) if contents else None,
    )
    return oip.ModelInferRequest(inputs=[tensor], raw_input_contents=raw)


def field_of(work, *given):
    with pytest.raises(InvalidTensor) as refused:
        work(*given)
    return refused.value.field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (request("FP32", [1], raw=[bytes(4)]), "datatype"),
        (request("UINT8", [1] * 5, raw=[b"x"]), "shape"),
        (request("UINT8", [], raw=[b""]), "shape"),
        (request("UINT8", [0, 3], raw=[b""]), "shape"),
        (request("UINT8", [2, 3], raw=[bytes(5)]), "shape"),
        (request("UINT8", [2], uint_contents=[1, 2, 3]), "shape"),
        (request("UINT8", [1], raw=[b"x"], uint_contents=[1]), "contents"),
        (request("UINT8", [1], int64_contents=[1]), "contents"),
    ],
)
def test_a_shape_that_its_contents_do_not_fill_is_refused(given, field):
    assert field_of(read_shape, given, 0, "UINT8") == f"inputs[0].{field}"


def test_raw_contents_are_as_many_as_inputs():
    given = request("UINT8", [1], raw=[b"x", b"y"])
    assert field_of(read_shape, given, 0, "UINT8") == "raw_input_contents"


def test_pixels_are_read_raw_or_typed():
    raw, typed = request("UINT8", [2, 2], raw=[b"\1\2\3\4"]), [1, 2, 3, 4]
    for given in (raw, request("UINT8", [2, 2], uint_contents=typed)):
        shape = read_shape(given, 0, "UINT8")
        assert read_pixels(given, 0, shape).tolist() == [[1, 2], [3, 4]]
    large = request("UINT8", [2], uint_contents=[1, 256])
    assert field_of(read_pixels, large, 0, (2,)) == "inputs[0].contents"


def test_bytes_are_read_raw_after_their_lengths_or_typed():
    raw = b"\2\0\0\0ab" + b"\0\0\0\0"
    for given in (
        request("BYTES", [2], raw=[raw]),
        request("BYTES", [2], bytes_contents=[b"ab", b""]),
    ):
        assert read_bytes(given, 0, read_shape(given, 0, "BYTES")) == [b"ab", b""]


@pytest.mark.parametrize("raw", [b"\2\0\0", b"\3\0\0\0ab", b"\2\0\0\0ab\1"])
def test_bytes_that_end_early_are_refused(raw):
    given = request("BYTES", [2], raw=[raw])
    assert field_of(read_bytes, given, 0, (2,)) == "raw_input_contents"


@pytest.mark.parametrize("count", [1, 3])
def test_bytes_are_as_many_as_their_shape_takes(count):
    given = request("BYTES", [2], raw=[b"\0\0\0\0" * count])
    assert field_of(read_bytes, given, 0, (2,)) == "inputs[0].shape"


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("FP32", [1.5, -2.0]), ("INT64", [3, -4]), ("BYTES", [b"ab", b""])],
)
def test_what_is_written_is_read_again(datatype, values):
    array = np.empty(2, numpy_type(datatype))
    array[:] = values
    response = oip.ModelInferResponse()
    add_output(response, "raw", datatype, array, raw=True)
    add_output(response, "typed", datatype, array, raw=False)
    assert [(own.name, own.datatype, list(own.shape)) for own in response.outputs] == [
        ("raw", datatype, [2]),
        ("typed", datatype, [2]),
    ]
    ((_, typed),) = response.outputs[1].contents.ListFields()
    assert list(typed) == values
    if datatype == "BYTES":
        assert (
            read_bytes(request("BYTES", [2], raw=response.raw_output_contents), 0, (2,)) == values
        )
    else:
        again = np.frombuffer(response.raw_output_contents[0], numpy_type(datatype))
        assert again.tolist() == values
