"""Checks of the made-up explainer: reasons, fields and bounds."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from client_samples import make_pixels, make_png
from PIL import Image
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_client.testing._checks import (
    MAX_IMAGE_BYTES,
    Refused,
    check_bank,
    check_options,
    open_image,
    page_token,
    read_page,
    read_target,
)

CLASSES = ("Cat", "cat", "Dog")


def refusal(call, *args, **options):
    with pytest.raises(Refused) as caught:
        call(*args, **options)
    ((field, _),) = caught.value.violations
    return caught.value.reason, field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"request_id": "x" * 129}, "request_id"),
        ({"heatmap": 9}, "heatmap"),
        ({"lane": 9}, "lane"),
        ({"max_phrases": 0}, "max_phrases"),
        ({"min_probability": 1.5}, "min_probability"),
        ({"kinds": [0]}, "kinds"),
        ({"prediction_count": -1}, "prediction_count"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_field(options, field):
    assert refusal(check_options, pb.ExplainRequest(**options)) == ("INVALID_ARGUMENT", field)


def test_options_at_their_bounds_pass():
    check_options(pb.ExplainRequest())
    check_options(pb.ExplainRequest(request_id="x" * 128, max_phrases=20, min_probability=1))


def test_options_that_the_bank_lacks_are_refused():
    asked = pb.ExplainRequest(min_probability=0.5, kinds=[types_pb.PHRASE_KIND_PART])
    check_bank(asked, calibrated=True, kinds=True)
    assert refusal(check_bank, asked, calibrated=False, kinds=True)[1] == "min_probability"
    assert refusal(check_bank, asked, calibrated=True, kinds=False)[1] == "kinds"


def test_pages_begin_where_their_token_says():
    assert read_page(pb.ListModelsRequest()) == (0, 100)
    given = pb.ListModelsRequest(page_size=5000, page_token=page_token(7))
    assert read_page(given) == (7, 1000)
    assert refusal(read_page, pb.ListModelsRequest(page_token="after:x"))[1] == "page_token"


def target(*refs):
    return types_pb.Target(classes=types_pb.Target.Classes(classes=refs))


def test_classes_are_found_by_index_and_by_name_an_exact_one_first():
    refs = [types_pb.ClassRef(index=2), types_pb.ClassRef(name=" Cat ")]
    assert read_target(target(*refs), CLASSES) == [(2, None), (0, None)]
    assert read_target(target(types_pb.ClassRef(name="cat")), CLASSES) == [(1, None)]
    assert read_target(target(types_pb.ClassRef(name="DOG")), CLASSES) == [(2, None)]


def test_a_target_is_a_number_of_classes_or_a_contrast_of_two():
    assert read_target(types_pb.Target(), CLASSES) == 1
    assert read_target(types_pb.Target(top_k=types_pb.Target.TopK(k=3)), CLASSES) == 3
    cat, dog = types_pb.ClassRef(index=0), types_pb.ClassRef(index=2)
    pair = types_pb.Target(contrast=types_pb.Target.Contrast(target=cat, reference=dog))
    assert read_target(pair, CLASSES) == [(0, 2)]
    same = types_pb.Target(contrast=types_pb.Target.Contrast(target=cat, reference=cat))
    assert refusal(read_target, same, CLASSES)[1] == "target.contrast.reference"


def test_targets_out_of_range_or_unknown_are_refused_by_their_place():
    four = types_pb.Target(top_k=types_pb.Target.TopK(k=4))
    assert refusal(read_target, four, CLASSES) == ("INVALID_ARGUMENT", "target.top_k.k")
    unknown = target(types_pb.ClassRef(index=0), types_pb.ClassRef(name="bird"))
    field = "target.classes.classes[1].name"
    assert refusal(read_target, unknown, CLASSES) == ("UNKNOWN_CLASS", field)
    with pytest.raises(Refused) as caught:
        read_target(target(types_pb.ClassRef(index=3)), CLASSES)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def tensor(shape, data=None, dtype=types_pb.Tensor.D_TYPE_UINT8):
    data = bytes(int(np.prod(shape))) if data is None else data
    return pb.ExplainRequest(pixels=types_pb.Tensor(dtype=dtype, shape=shape, data=data))


def test_files_and_pixels_are_opened_with_their_decoders_name():
    image, decoder = open_image(pb.ExplainRequest(encoded=make_png(0)))
    assert (image.size, image.mode, decoder) == ((32, 24), "RGB", "pillow/PNG")
    pixels = make_pixels(4, 6)
    image, decoder = open_image(tensor(pixels.shape, pixels.tobytes()))
    assert decoder == "raw"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def animated():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("request_of", "expected"),
    [
        (pb.ExplainRequest, ("EMPTY_IMAGE", "image")),
        (lambda: pb.ExplainRequest(encoded=b""), ("EMPTY_IMAGE", "encoded")),
        (lambda: pb.ExplainRequest(encoded=b"no image"), ("UNSUPPORTED_IMAGE", "encoded")),
        (
            lambda: pb.ExplainRequest(encoded=bytes(MAX_IMAGE_BYTES + 1)),
            ("IMAGE_TOO_LARGE", "encoded"),
        ),
        (lambda: pb.ExplainRequest(encoded=make_png(0)[:200]), ("TRUNCATED_IMAGE", "encoded")),
        (lambda: pb.ExplainRequest(encoded=animated()), ("ANIMATED_IMAGE", "encoded")),
        (lambda: tensor([2, 2, 4]), ("INVALID_TENSOR", "pixels.shape")),
        (lambda: tensor([2, 2, 3], b"x"), ("INVALID_TENSOR", "pixels.data")),
        (
            lambda: tensor([1, 1, 3], dtype=types_pb.Tensor.D_TYPE_FLOAT32),
            ("INVALID_TENSOR", "pixels.dtype"),
        ),
    ],
)
def test_an_image_that_cannot_be_read_is_refused_with_the_reason(request_of, expected):
    assert refusal(open_image, request_of()) == expected
