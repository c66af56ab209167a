"""Requests of the Open Inference Protocol as jobs."""

import base64

import numpy as np
import pytest
from small_models import load_model, write_model
from textcam.oip import open_inference_pb2 as oip
from textcam_service.errors import (
    BatchTooLarge,
    InvalidArgument,
    InvalidTensor,
    TextCamError,
    UnknownClass,
    UnsupportedMethod,
)
from textcam_service.serving.engine.jobs import Classes, HeatmapForm, TopK
from textcam_service.serving.grpc.oip.requests import charged_images, read_batch, read_images
from textcam_service.settings import ServerSettings

SETTINGS = ServerSettings(max_concurrent=8, default_phrases=4, max_phrases=6)
TENSOR = oip.ModelInferRequest.InferInputTensor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("model"), 1))


def files(*given, outputs=(), **parameters):
    contents = oip.InferTensorContents(bytes_contents=given)
    wanted = oip.ModelInferRequest.InferRequestedOutputTensor
    request = oip.ModelInferRequest(
        id="seven",
        inputs=[TENSOR(name="image", datatype="BYTES", shape=[len(given)], contents=contents)],
        outputs=[wanted(name=name) for name in outputs],
    )
    for name, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "int64_param"
        setattr(request.parameters[name.rstrip("_")], kind, value)
    return request


def test_files_become_one_job_each_with_the_defaults(bundle):
    request = files(b"one", b"two")
    batch = read_batch(request, bundle, SETTINGS)
    jobs = [batch.job(image) for image in read_images(request, batch)]
    assert [job.image for job in jobs] == [b"one", b"two"]
    for job in jobs:
        assert (job.request_id, job.target, job.heatmap) == ("seven", TopK(1), HeatmapForm.SALIENCY)
        assert (job.phrase_filter.max_phrases, job.method) == (4, bundle.default_method)
        assert not job.may_degrade


def test_pixels_become_views_of_the_request(bundle):
    pixels = np.arange(2 * 2 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 3)
    request = oip.ModelInferRequest(
        inputs=[TENSOR(name="pixels", datatype="UINT8", shape=pixels.shape)],
        raw_input_contents=[pixels.tobytes()],
    )
    batch = read_batch(request, bundle, SETTINGS)
    images = read_images(request, batch)
    assert batch.count == len(images) == 2
    np.testing.assert_array_equal(np.stack(images), pixels)
    assert not any(image.flags.owndata for image in images)
    assert batch.job(images[0]).image is images[0]


def test_parameters_choose_phrases_class_and_method(bundle):
    named = read_batch(
        files(b"x", max_phrases=6, class_="Class 3", method="HiRes_CAM"), bundle, SETTINGS
    )
    assert (named.template.phrase_filter.max_phrases, named.template.target) == (6, Classes((3,)))
    assert named.template.method.name == "hires_cam"
    numbered = read_batch(files(b"x", class_=2, timeout=5), bundle, SETTINGS)
    assert numbered.template.target == Classes((2,))


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"class_": "unicorn"}, UnknownClass),
        ({"class_": 5}, UnknownClass),
        ({"method": "legrad"}, UnsupportedMethod),
        ({"method": "x"}, TextCamError),
        ({"max_phrases": 7}, TextCamError),
        ({"beam": 4}, TextCamError),
    ],
)
def test_a_parameter_that_the_model_or_server_does_not_know_is_refused(bundle, parameters, kind):
    with pytest.raises(kind) as refused:
        read_batch(files(b"x", **parameters), bundle, SETTINGS)
    assert refused.value.field == "parameters"


@pytest.mark.parametrize(
    ("outputs", "groups"),
    [((), True), (("logits",), False), (("bias", "rest_map"), True), (("group_maps",), True)],
)
def test_maps_of_groups_are_made_only_if_an_output_needs_them(bundle, outputs, groups):
    batch = read_batch(files(b"x", outputs=outputs), bundle, SETTINGS)
    assert batch.template.include_groups == groups
    assert batch.outputs == outputs or not outputs


def test_a_request_is_charged_its_images_and_one_if_they_cannot_be_counted():
    assert charged_images(files(*[b"x"] * 5), SETTINGS) == 5
    assert charged_images(files(*[b"x"] * 9), SETTINGS) == 1
    assert charged_images(oip.ModelInferRequest(), SETTINGS) == 1


def test_more_images_than_are_ever_in_work_are_refused_by_their_shape(bundle):
    with pytest.raises(BatchTooLarge) as refused:
        read_batch(files(*[b"x"] * 9), bundle, SETTINGS)
    assert refused.value.field == "inputs[0].shape"


PHOTO = b"\xff\xd8\xff\xe0photo"


def typed(given, content_type, *elements):
    """A request whose content type stands at the input, an output or the request."""
    request = files(*elements, outputs=["logits", "phrases"])
    places = {"input": request.inputs[0], "request": request}
    places |= {output.name: output for output in request.outputs}
    places[given].parameters["content_type"].string_param = content_type
    return request


@pytest.mark.parametrize("place", ["input", "request"])
@pytest.mark.parametrize("content_type", ["base64", "pillow_image"])
def test_files_in_base64_are_decoded_and_others_stay(bundle, place, content_type):
    encoded = base64.b64encode(PHOTO)
    request = typed(place, content_type, encoded, base64.encodebytes(PHOTO * 9), PHOTO)
    images = read_images(request, read_batch(request, bundle, SETTINGS))
    assert images == [PHOTO, PHOTO * 9, PHOTO]


@pytest.mark.parametrize("spoilt", [b"abcde", b"ab-_" * 9, base64.b64encode(PHOTO)[:-1]])
def test_what_is_no_base64_in_spite_of_its_content_type_is_refused(bundle, spoilt):
    request = typed("input", "base64", PHOTO, spoilt)
    with pytest.raises(InvalidTensor, match="element 1 is not valid base64"):
        read_images(request, read_batch(request, bundle, SETTINGS))


@pytest.mark.parametrize(
    "head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0", b"RIFF\x10\0\0\0WEBP", b"url"]
)
def test_base64_without_a_content_type_is_told_so(bundle, head):
    encoded = base64.b64encode(head + b"0" * 30)
    request = files(PHOTO, b"data:image/png;base64," + encoded if head == b"url" else encoded)
    with pytest.raises(InvalidTensor, match=r"element 1 is an image as base64 .* content_type"):
        read_images(request, read_batch(request, bundle, SETTINGS))


@pytest.mark.parametrize(
    ("place", "content_type"),
    [("input", "np"), ("request", "np"), ("logits", "np"), ("phrases", "str"), ("input", "")],
)
def test_content_types_of_what_is_sent_anyway_are_taken(bundle, place, content_type):
    request = typed(place, content_type, PHOTO)
    assert read_images(request, read_batch(request, bundle, SETTINGS)) == [PHOTO]


@pytest.mark.parametrize(
    ("place", "content_type"),
    [
        ("input", "str"),
        ("input", "pd"),
        ("input", "datetime"),
        ("request", "pd"),
        ("logits", "base64"),
        ("phrases", "pd"),
    ],
)
def test_other_content_types_are_refused_by_name(bundle, place, content_type):
    with pytest.raises(InvalidArgument, match=f"content_type '{content_type}' of .* 'np'"):
        read_batch(typed(place, content_type, PHOTO), bundle, SETTINGS)


def test_pixels_are_never_base64(bundle):
    request = oip.ModelInferRequest(
        inputs=[TENSOR(name="pixels", datatype="UINT8", shape=[1, 1, 3])],
        raw_input_contents=[b"abc"],
    )
    request.inputs[0].parameters["content_type"].string_param = "base64"
    with pytest.raises(InvalidArgument, match="content_type 'base64' of 'pixels'"):
        read_batch(request, bundle, SETTINGS)
