"""What ONNX files state of themselves."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from textcam_service.offline.export.from_onnx.metadata import class_names_in, statement_of
from textcam_service.offline.networks.network import NOTHING_STATED


def model(metadata):
    made = onnx.ModelProto()
    helper.set_model_props(made, metadata)
    return made


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"names": "{0: 'a', 2: 'c', 1: 'b'}"}, ("a", "b", "c")),
        ({"class_names": '["a", "b", "c"]'}, ("a", "b", "c")),
        ({"labels": '{"10": "k", "9": "j"}'}, ("j", "k")),
        ({"names": "a, b, c"}, ()),
        ({"stride": "32"}, ()),
    ],
)
def test_class_names_are_read_as_json_or_as_python_writes_them(metadata, names):
    assert class_names_in(model(metadata)) == names


def stated(metadata, element=TensorProto.FLOAT):
    found = statement_of(Path("m.onnx"), model(metadata), element, NOTHING_STATED)
    return found.preprocessing


# "imgsz" as Ultralytics 8.4 writes it; its transforms resize both sides if they differ.
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ("[224, 224]", ((224, 224), 224, "center")),
        ("[160, 224]", ((160, 224), 224, "squash")),
        ("320", ((320, 320), 320, "center")),
        ("any", (None, None, "center")),
    ],
)
def test_ultralytics_classifiers_take_pixels_of_0_to_1_of_their_size(size, wanted):
    found = stated({"description": "Ultralytics YOLO11n-cls model", "imgsz": size})
    assert (found.size, found.resize, found.crop_mode) == wanted
    assert (found.mean, found.std, found.interpolation) == ((0,) * 3, (1,) * 3, "bilinear")


@pytest.mark.parametrize(
    ("values", "darkest", "brightest"),
    [("NominalRange_0_255", 0, 255), ("Normalized_0_1", 0, 1), ("Normalized_1_1", -1, 1)],
)
def test_the_standards_range_of_pixels_is_what_black_and_white_become(values, darkest, brightest):
    found = stated({"Image.NominalPixelRange": values})
    for pixel, level in ((0.0, darkest), (1.0, brightest)):
        assert (pixel - found.mean[0]) / found.std[0] == pytest.approx(level)


def test_whole_numbers_are_the_pixels_levels_whatever_the_metadata_say():
    found = stated({"Image.NominalPixelRange": "Normalized_0_1"}, TensorProto.UINT8)
    assert (1.0 - found.mean[0]) / found.std[0] == pytest.approx(255)


def test_metadata_about_anything_else_state_nothing():
    assert stated({"task": "detect", "imgsz": "[64, 64]"}) == NOTHING_STATED
