"""Graphs exported for a fixed number of images, run on any number."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.dynamic_batch import make_dynamic, run_each
from textcam_service.offline.export.from_onnx.nodes import run_model
from textcam_service.offline.export.from_onnx.reading import read_onnx
from textcam_service.offline.export.from_onnx.split import backbone_model
from textcam_service.offline.export.tensor_layout import Layout
from textcam_service.offline.networks.network import StatedPreprocessing

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32)
DENSE = RNG.normal(size=(64, 5)).astype(np.float32)
PIXELS = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)


def saved(folder, batch, *tail, rank=2):
    """A convolution, then `tail`: nodes from "maps" (N, 4, 4, 4) to "logits"."""
    weights = [numpy_helper.from_array(KERNEL, "kernel"), numpy_helper.from_array(DENSE, "dense")]
    sizes = {"flat": [batch or -1, 64], "back": [-1, 64], "rows": [8, -1]}
    weights += [numpy_helper.from_array(np.array(own), name) for name, own in sizes.items()]
    conv = helper.make_node("Conv", ["image", "kernel"], ["maps"], strides=[2, 2])
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        [conv, *tail],
        "classifier",
        [declare("image", TensorProto.FLOAT, [batch or "N", 3, 8, 8])],
        [declare("logits", TensorProto.FLOAT, ["N"] + ["C"] * (rank - 1))],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    path = folder / "c.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return read_onnx(path, StatedPreprocessing((8, 8)))


def flattened():
    return [
        helper.make_node("Reshape", ["maps", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "dense"], ["logits"]),
    ]


def expected(count):
    windows = PIXELS[:count].reshape(count, 3, 4, 2, 4, 2)
    maps = np.einsum("ncyixj,dcij->ndyx", windows, KERNEL)
    return maps.reshape(count, -1) @ DENSE


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_the_batch_of_reshapes_is_made_free(batch, tmp_path):
    classifier = make_dynamic(saved(tmp_path, batch, *flattened()), PIXELS)
    assert not classifier.looped
    assert classifier.class_count == 5
    assert classifier.shapes["own:maps"] == (4, 4, 4)
    backbone = backbone_model(classifier, "own:maps", Layout("NCHW", 4, 4, 4))
    for count in (1, 3):
        found = run_model(backbone, "it", {"image": PIXELS[:count]})
        np.testing.assert_allclose(found["logits"], expected(count), rtol=1e-4, atol=1e-4)


def mixed():
    """The images of a batch are mixed in a reshape to 8 rows; of one image, it is whole."""
    return [
        helper.make_node("Reshape", ["maps", "rows"], ["mixed"]),
        helper.make_node("Softmax", ["mixed"], ["shares"], axis=0),
        helper.make_node("Reshape", ["shares", "back"], ["row"]),
        helper.make_node("MatMul", ["row", "dense"], ["logits"]),
    ]


def test_a_batch_of_1_that_cannot_be_freed_is_looped(tmp_path):
    file = saved(tmp_path, 1, *mixed())
    classifier = make_dynamic(file, PIXELS)
    assert classifier.looped
    backbone = backbone_model(classifier, "own:maps", Layout("NCHW", 4, 4, 4))
    found = run_model(backbone, "it", {"image": PIXELS})
    (wanted,) = run_each(file, file.model, PIXELS)
    np.testing.assert_allclose(found["logits"], wanted, rtol=1e-5, atol=1e-5)


def test_a_batch_of_2_that_cannot_be_freed_is_refused(tmp_path):
    with pytest.raises(ExportRefused, match=r"takes 2 images at once, .* or with one of 1"):
        make_dynamic(saved(tmp_path, 2, *mixed()), PIXELS)


def test_an_output_of_another_shape_is_refused_by_its_name(tmp_path):
    tail = helper.make_node("Relu", ["maps"], ["logits"])
    with pytest.raises(ExportRefused, match=r"'logits' is not \(N, C\) logits"):
        make_dynamic(saved(tmp_path, 0, tail, rank=4), PIXELS)
