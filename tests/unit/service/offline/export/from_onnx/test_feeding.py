"""Files of other exporters are served as they are fed elsewhere, by Pillow and numpy alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from textcam_service.errors import ExportRefused
from textcam_service.imaging.decoding import prepare
from textcam_service.offline.export.from_onnx.export import export_onnx
from textcam_service.offline.export.from_onnx.feeding import OnnxInterface
from textcam_service.offline.export.from_onnx.reading import read_onnx
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.networks.network import StatedPreprocessing
from textcam_service.runtime.backbone import Backbone

SIDE = 32
RNG = np.random.default_rng(3)
WEIGHTS = {
    "kernel": RNG.normal(size=(16, 3, 2, 2)).astype(np.float32),
    "dense": RNG.normal(size=(16, 5)).astype(np.float32),
    "scale": np.float32(1 / 255),
    "white": np.array([0.5, 0.25, 0.75], np.float32).reshape(1, 3, 1, 1),
}
ULTRALYTICS = {
    "author": "Ultralytics",
    "task": "classify",
    "imgsz": f"[{SIDE}, {SIDE}]",
    "names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}",
}


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def saved(path, *, shape, kind=TensorProto.FLOAT, inner=False, outputs=("logits",), metadata=None):
    """A network as tf2onnx writes it: channels last outside, NCHW for its one convolution.

    `inner`: it scales pixels of 0..255 itself, and subtracts a colour of its own.
    """
    nodes, maps = [], "image"
    if kind == TensorProto.UINT8:
        nodes, maps = [node("Cast", "image", "levels", to=TensorProto.FLOAT)], "levels"
    if shape[-1] == 3:
        nodes.append(node("Transpose", maps, "first", perm=[0, 3, 1, 2]))
        maps = "first"
    if inner:
        nodes += [node("Mul", f"{maps} scale", "small"), node("Sub", "small white", "centred")]
        maps = "centred"
    nodes += [
        node("Conv", f"{maps} kernel", "sums", strides=[2, 2]),
        node("Transpose", "sums", "last", perm=[0, 2, 3, 1]),
        node("Relu", "last", "maps"),
        node("ReduceMean", "maps", "mean", axes=[1, 2], keepdims=0),
        node("MatMul", "mean dense", "logits"),
        node("Softmax", "logits", "shares"),
    ]
    declare = helper.make_tensor_value_info
    extents = {"logits": ["N", 5], "shares": ["N", 5], "mean": ["N", 16]}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [declare("image", kind, shape)],
        [declare(name, TensorProto.FLOAT, extents[name]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def pictures():
    """Smooth pictures of other proportions, of strong colours."""
    for width, height in ((48, 64), (90, 40), (33, 33)):
        coarse = np.random.default_rng(width).integers(0, 256, (5, 5, 3), np.uint8)
        yield Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def cropped(picture, resize, filtering):
    """The centre of a picture whose shorter side was resized, by Pillow."""
    scale = resize / min(picture.size)
    width, height = (int(side * scale) for side in picture.size)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    resized = picture.resize((width, height), filtering)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


FIRST, LAST = ["N", 3, SIDE, SIDE], ["N", SIDE, SIDE, 3]
CAFFE = (103.939, 116.779, 123.68)  # blue, green, red
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def squashed(picture):
    return np.asarray(picture.resize((SIDE, SIDE), BICUBIC))


# What is stated, the file, and how its maker feeds it.
CASES = {
    "Keras, -1..1, squashed": (
        StatedPreprocessing(None, SIDE, "bicubic", (0.5,) * 3, (0.5,) * 3, "squash"),
        {"shape": LAST},
        lambda picture: squashed(picture) / 127.5 - 1,
        OnnxInterface(),
    ),
    "Caffe, BGR without its mean": (
        StatedPreprocessing(
            (SIDE, SIDE),
            mean=tuple(level / 255 for level in reversed(CAFFE)),
            std=(1 / 255,) * 3,
        ),
        {"shape": ["N", 3, "h", "w"]},
        lambda picture: (cropped(picture, 36, BILINEAR)[..., ::-1] - np.array(CAFFE)).transpose(
            2, 0, 1
        ),
        OnnxInterface(channel_order="BGR"),
    ),
    "0..255, scaled by the graph": (
        StatedPreprocessing(mean=(0.0,) * 3, std=(1 / 255,) * 3),
        {"shape": [1, *FIRST[1:]], "inner": True},
        lambda picture: cropped(picture, 36, BILINEAR).transpose(2, 0, 1),
        OnnxInterface(),
    ),
    "uint8, channels last, batch of 1": (
        StatedPreprocessing(resize=SIDE),
        {"shape": [1, *LAST[1:]], "kind": TensorProto.UINT8, "inner": True},
        lambda picture: cropped(picture, SIDE, BILINEAR),
        OnnxInterface(),
    ),
    "Ultralytics, by its metadata": (
        StatedPreprocessing(),
        {"shape": ["N", 3, "h", "w"], "outputs": ("shares",), "metadata": ULTRALYTICS},
        lambda picture: cropped(picture, SIDE, BILINEAR).transpose(2, 0, 1) / 255,
        OnnxInterface(),
    ),
    "ONNX's own metadata": (
        StatedPreprocessing(resize=SIDE),
        {
            "shape": FIRST,
            "inner": True,
            "metadata": {
                "Image.BitmapPixelFormat": "Bgr8",
                "Image.NominalPixelRange": "NominalRange_0_255",
            },
        },
        lambda picture: cropped(picture, SIDE, BILINEAR)[..., ::-1].transpose(2, 0, 1),
        OnnxInterface(),
    ),
    "two outputs": (
        StatedPreprocessing(mean=(0.0,) * 3, std=(1.0,) * 3),
        {"shape": FIRST, "outputs": ("mean", "shares")},
        lambda picture: cropped(picture, 36, BILINEAR).transpose(2, 0, 1) / 255,
        OnnxInterface(logits_output="shares"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_served_logits_are_the_files_own(case, tmp_path):
    stated, options, fed, interface = CASES[case]
    path = saved(tmp_path / "m.onnx", **options)
    export_onnx(path, tmp_path / "b", preprocessing=stated, interface=interface)
    served = Backbone(tmp_path / "b")
    assert (served.manifest.channel_count, served.manifest.map_height) == (16, SIDE // 2)
    session = cpu_session(path.read_bytes())
    kind = np.uint8 if options.get("kind") else np.float32
    for picture in pictures():
        pixels, _ = prepare(picture, served.manifest.preprocessing)
        found = served.forward(pixels[None])[0]
        given = np.ascontiguousarray(fed(picture)[None]).astype(kind)
        answer = session.run([options.get("outputs", ["logits"])[-1]], {"image": given})[0][0]
        wanted = np.log(answer) if "outputs" in options else answer
        # Resampling differs by a level here and there; of a softmax the sum of logits is free.
        off = found.logits - wanted
        off -= off.mean() if "outputs" in options else 0
        assert np.abs(off).max() < 0.01 * np.ptp(wanted)
        # The maps, as numpy lays out what the graph computes with the channels last.
        graph = onnx.load(path)
        graph.graph.output.append(onnx.ValueInfoProto(name="maps"))
        (maps,) = cpu_session(graph.SerializeToString()).run(["maps"], {"image": given})
        expected = maps[0].transpose(2, 0, 1)
        assert np.abs(found.activation_maps - expected).max() < 0.03 * expected.max()


def test_names_of_ultralytics_become_class_names_and_the_report_says_what_was_read(tmp_path):
    path = saved(tmp_path / "m.onnx", shape=["N", 3, "h", "w"], metadata=ULTRALYTICS)
    file = read_onnx(path)
    assert file.class_names == tuple("abcde")
    assert file.preprocessing.resize == file.preprocessing.width == SIDE
    (note,) = file.notes
    assert "from its metadata, Ultralytics'" in note
    assert "mean 0,0,0, std 1,1,1" in note


def test_options_take_the_place_of_the_metadata_and_are_reported(tmp_path):
    path = saved(tmp_path / "m.onnx", shape=["N", 3, "h", "w"], metadata=ULTRALYTICS)
    file = read_onnx(path, StatedPreprocessing((64, 64), mean=(0.5,) * 3))
    told = file.preprocessing
    assert (told.mean, told.std, told.resize, told.height) == ((0.5,) * 3, (1.0,) * 3, 64, 64)
    assert "in place of its metadata, Ultralytics'" in file.notes[1]
    assert "mean 0.5,0.5,0.5 (not 0,0,0)" in file.notes[1]


def test_what_is_stated_nowhere_is_reported_as_assumed(tmp_path):
    path = saved(tmp_path / "m.onnx", shape=LAST)
    (assumed, last) = read_onnx(path, StatedPreprocessing(std=(1.0,) * 3)).notes
    assert assumed == (
        "assumed as for torchvision's networks, and stated nowhere: mean 0.485,0.456,0.406, "
        "resize 36, interpolation bilinear, crop_mode center; --check-images FOLDER tries it on "
        "photographs"
    )
    assert "NHWC" in last


def test_a_fixed_size_need_not_be_stated(tmp_path):
    told = read_onnx(saved(tmp_path / "m.onnx", shape=["N", 3, 24, 40])).preprocessing
    assert (told.height, told.width, told.resize) == (24, 40, 45)


@pytest.mark.parametrize(
    ("options", "stated", "interface", "said"),
    [
        ({"shape": ["N", 8, 8, 1]}, {}, {}, r"takes \(\?, 8, 8, 1\), not \(N, 3, h, w\) or"),
        ({"shape": FIRST}, {}, {"layout": "NHWC"}, "not NHWC; leave out --layout"),
        ({"shape": ["N", 3, 24, 40]}, {"size": (32, 32)}, {}, "state --input-size 24,40"),
        (
            {"shape": LAST, "kind": TensorProto.UINT8},
            {"mean": (0.5,) * 3},
            {},
            "takes UINT8, the pixels from 0 to 255; leave out --mean",
        ),
        (
            {"shape": FIRST, "metadata": {**ULTRALYTICS, "task": "detect"}},
            {},
            {},
            "was made to detect; export one that was made to classify",
        ),
    ],
    ids=["one colour", "layout", "size", "mean of uint8", "boxes"],
)
def test_an_input_that_is_no_classifiers_is_refused(options, stated, interface, said, tmp_path):
    saved(tmp_path / "m.onnx", **options)
    with pytest.raises(ExportRefused, match=said):
        read_onnx(tmp_path / "m.onnx", StatedPreprocessing(**stated), OnnxInterface(**interface))
