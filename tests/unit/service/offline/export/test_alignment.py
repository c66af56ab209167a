"""Offsets of a backbone's cells, measured on its graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from textcam_service.artefacts.backbone import ACTIVATION_MAPS, INPUT
from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.alignment import backbone_offset, backbone_order
from textcam_service.offline.export.tensor_layout import Layout

SIZE = Preprocessing(32, 32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)
LAYOUT = Layout("NCHW", 2, 8, 8)


def padded(left, top):
    """Sums over cells of 4 x 4 pixels, behind so many pixels of padding at the left and top."""
    kernel = np.zeros((2, 3, 4, 4), np.float32)
    kernel[:] = np.array([1.0, -1.0])[:, None, None, None]
    node = helper.make_node(
        "Conv", [INPUT, "kernel"], [ACTIVATION_MAPS], strides=[4, 4], pads=[top, left, 0, 0]
    )
    declare = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "padded",
        [declare(INPUT, TensorProto.FLOAT, ["n", 3, 32, 32])],
        [declare(ACTIVATION_MAPS, TensorProto.FLOAT, ["n", 2, 8, 8])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return model.SerializeToString()


def test_cells_lie_off_by_the_padding_before_them():
    right, down = backbone_offset(padded(2, 0), LAYOUT, SIZE)
    assert (abs(right), down) == (pytest.approx(2, abs=0.5), 0)
    right, down = backbone_offset(padded(0, 2), LAYOUT, SIZE)
    assert (right, abs(down)) == (0, pytest.approx(2, abs=0.5))
    assert backbone_offset(padded(0, 0), LAYOUT, SIZE) == (0, 0)


def test_tokens_and_vertices_have_no_offset():
    graph = padded(2, 0)
    assert backbone_offset(graph, Layout("tokens", 2, 8, 8), SIZE) == (0, 0)
    assert backbone_offset(graph, LAYOUT, SIZE, vertices=64) == (0, 0)


def followed(*nodes):
    """padded(0, 0) with further nodes behind its maps, from "upright" to ACTIVATION_MAPS."""
    model = onnx.load_from_string(padded(0, 0))
    model.graph.node[0].output[0] = "upright"
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def test_cells_that_stand_column_by_column_are_found():
    turn = helper.make_node("Transpose", ["upright"], [ACTIVATION_MAPS], perm=[0, 1, 3, 2])
    order = backbone_order(followed(turn), ACTIVATION_MAPS, "late", SIZE)
    np.testing.assert_array_equal(order, np.arange(64).reshape(8, 8).T)


@pytest.mark.parametrize("padding", [(0, 0), (2, 2)])
def test_cells_that_stand_where_they_see_the_image_have_no_other_order(padding):
    assert backbone_order(padded(*padding), ACTIVATION_MAPS, "late", SIZE) is None


def test_cells_in_no_order_are_refused():
    """Columns stand as rows, and those of the right half twice."""
    make = helper.make_node
    half = make("Split", ["upright"], ["left", "right"], axis=3)
    twice = make("Concat", ["right", "right"], ["twice"], axis=3)
    turn = make("Transpose", ["twice"], [ACTIVATION_MAPS], perm=[0, 1, 3, 2])
    with pytest.raises(ExportRefused, match=r"the cells of 'late' do not .*--target-layer"):
        backbone_order(followed(half, twice, turn), ACTIVATION_MAPS, "late", SIZE)
