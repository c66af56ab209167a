"""Requests of the contract as jobs; refusals name the field at fault."""

import numpy as np
import pytest
from small_models import add_supports, load_model, write_model
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb
from textcam_service.errors import EmptyImage, InvalidArgument, InvalidTensor, TextCamError
from textcam_service.serving.batching.scheduling import Lane
from textcam_service.serving.engine.jobs import Classes, Contrast, HeatmapForm, ModelRef, TopK
from textcam_service.serving.grpc.explainer.requests import read_job, read_lane, read_model
from textcam_service.settings import ServerSettings

SETTINGS = ServerSettings(max_targets=3, max_phrases=8, default_phrases=4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("plain"), 1))


@pytest.fixture(scope="module")
def with_kinds(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("kinds"), 1)
    return load_model(add_supports(folder, kinds=("thing", "part", "colour") * 3))


def read(bundle, **fields):
    return read_job(pb.ExplainRequest(**{"encoded": b"file"} | fields), bundle, SETTINGS)


def refused(bundle, kind=TextCamError, **fields):
    with pytest.raises(kind) as refusal:
        read(bundle, **fields)
    return refusal.value.field, str(refusal.value)


def chosen(*refs):
    classes = [
        types_pb.ClassRef(**{"name" if isinstance(own, str) else "index": own}) for own in refs
    ]
    return types_pb.Target(classes=types_pb.Target.Classes(classes=classes))


def test_a_request_that_says_only_its_image_gets_the_defaults(bundle):
    job = read(bundle)
    assert job.image == b"file"
    assert job.method is bundle.default_method
    assert (job.target, job.heatmap) == (TopK(1), HeatmapForm.SALIENCY)
    assert (
        job.phrase_filter.max_phrases,
        job.phrase_filter.min_probability,
        job.phrase_filter.repeat_class,
    ) == (4, None, None)
    assert (job.include_groups, job.prediction_count, job.may_degrade) == (True, 5, False)


def test_what_a_request_says_is_in_its_job(with_kinds):
    job = read(
        with_kinds,
        request_id="seven",
        max_phrases=8,
        include_groups=False,
        prediction_count=0,
        heatmap=types_pb.HEATMAP_FORM_OVERLAY,
        method=types_pb.CAM_METHOD_HIRES_CAM,
        may_degrade=True,
        min_probability=0.5,
        kinds=[types_pb.PHRASE_KIND_PART, types_pb.PHRASE_KIND_COLOUR],
        repeat_class=True,
    )
    assert (job.request_id, job.heatmap) == ("seven", HeatmapForm.OVERLAY)
    assert (job.method.name, job.may_degrade) == ("hires_cam", True)
    assert (job.include_groups, job.prediction_count) == (False, 0)
    assert (
        job.phrase_filter.max_phrases,
        job.phrase_filter.min_probability,
        job.phrase_filter.repeat_class,
    ) == (8, 0.5, True)
    assert job.phrase_filter.kinds == {"part", "colour"}


def test_pixels_are_read_without_a_copy_of_their_own(bundle):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensor = types_pb.Tensor(
        dtype=types_pb.Tensor.D_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes()
    )
    image = read_job(pb.ExplainRequest(pixels=tensor), bundle, SETTINGS).image
    np.testing.assert_array_equal(image, pixels)
    assert not image.flags.owndata


@pytest.mark.parametrize(
    ("shape", "dtype", "data", "field"),
    [
        ([2, 3], types_pb.Tensor.D_TYPE_UINT8, bytes(6), "pixels.shape"),
        ([1, 2, 4], types_pb.Tensor.D_TYPE_UINT8, bytes(8), "pixels.shape"),
        ([0, 2, 3], types_pb.Tensor.D_TYPE_UINT8, b"", "pixels.shape"),
        ([1, 2, 3], types_pb.Tensor.D_TYPE_FLOAT32, bytes(6), "pixels.dtype"),
        ([1, 2, 3], types_pb.Tensor.D_TYPE_UINT8, bytes(7), "pixels.data"),
    ],
)
def test_pixels_of_another_form_are_refused(bundle, shape, dtype, data, field):
    pixels = types_pb.Tensor(dtype=dtype, shape=shape, data=data)
    with pytest.raises(InvalidTensor) as refusal:
        read_job(pb.ExplainRequest(pixels=pixels), bundle, SETTINGS)
    assert refusal.value.field == field


def test_a_request_without_an_image_is_refused(bundle):
    with pytest.raises(EmptyImage, match="the request has no image"):
        read_job(pb.ExplainRequest(), bundle, SETTINGS)


def test_targets_are_resolved_against_the_model(bundle):
    assert read(bundle, target=types_pb.Target(top_k=types_pb.Target.TopK(k=3))).target == TopK(3)
    assert read(bundle, target=chosen(2, "CLASS 4")).target == Classes((2, 4))


def test_a_contrast_names_two_classes(bundle):
    contrast = types_pb.Target.Contrast(
        **dict(zip(CONTRAST, chosen(1, 0).classes.classes, strict=True))
    )
    assert read(bundle, target=types_pb.Target(contrast=contrast)).target == Contrast(1, 0)
    same = types_pb.Target.Contrast(
        **dict(zip(CONTRAST, chosen(1, 1).classes.classes, strict=True))
    )
    field, words = refused(bundle, InvalidArgument, target=types_pb.Target(contrast=same))
    assert field == f"target.contrast.{CONTRAST[1]}"
    assert "two different classes" in words


# The contract's names of the two.
CONTRAST = [field.name for field in types_pb.Target.Contrast.DESCRIPTOR.fields]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": "x" * 129}, "request_id"),
        ({"heatmap": 99}, "heatmap"),
        ({"method": 99}, "method"),
        ({"method": types_pb.CAM_METHOD_LEGRAD}, "method"),
        ({"max_phrases": 0}, "max_phrases"),
        ({"max_phrases": 9}, "max_phrases"),
        ({"prediction_count": -1}, "prediction_count"),
        ({"min_probability": 1.5}, "min_probability"),
        ({"min_probability": 0.5}, "min_probability"),
        ({"kinds": [99]}, "kinds"),
        ({"kinds": [types_pb.PHRASE_KIND_THING]}, "kinds"),
        ({"target": types_pb.Target(top_k=types_pb.Target.TopK(k=0))}, "target.top_k.k"),
        ({"target": types_pb.Target(top_k=types_pb.Target.TopK(k=4))}, "target.top_k.k"),
        ({"target": chosen()}, "target.classes.classes"),
        ({"target": chosen(0, 5)}, "target.classes.classes[1].index"),
        ({"target": chosen("unicorn")}, "target.classes.classes[0].name"),
        (
            {
                "target": types_pb.Target(
                    classes=types_pb.Target.Classes(classes=[types_pb.ClassRef()])
                )
            },
            "target.classes.classes[0]",
        ),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_field(bundle, fields, field):
    assert refused(bundle, **fields)[0] == field


def test_more_predictions_than_classes_are_all_classes(bundle):
    assert read(bundle, prediction_count=1000).prediction_count == len(bundle.class_names)


def test_a_lane_is_the_methods_own_unless_the_request_names_one():
    assert read_lane(types_pb.LANE_UNSPECIFIED, Lane.AUDIT) is Lane.AUDIT
    assert read_lane(types_pb.LANE_INTERACTIVE, Lane.AUDIT) is Lane.INTERACTIVE
    with pytest.raises(InvalidArgument) as refusal:
        read_lane(9, Lane.AUDIT)
    assert refusal.value.field == "lane"


def test_a_model_is_read_by_name_and_version():
    assert read_model(types_pb.ModelSpec(name="a", version="2")) == ModelRef("a", "2")
    assert read_model(pb.ExplainRequest().model) == ModelRef()
