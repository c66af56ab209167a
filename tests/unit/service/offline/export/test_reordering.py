"""Graphs with their cells in another order, against numpy's indexing."""

import numpy as np
import onnx
from onnx import TensorProto, helper
from textcam_service.offline.export.numerics import cpu_session
from textcam_service.offline.export.reordering import reordered

ORDER = np.random.default_rng(0).permutation(6).reshape(2, 3)


def graph():
    """maps -> doubled, and, inside of a branch, their sum along the width with maps."""
    declare, make, kind = helper.make_tensor_value_info, helper.make_node, TensorProto.FLOAT
    inner = [declare("inner", kind, ["N", 4, 2, 3])]
    first = helper.make_graph([make("Add", ["maps", "doubled"], ["inner"])], "first", [], inner)
    second = helper.make_graph([make("Neg", ["maps"], ["inner"])], "second", [], inner)
    nodes = [
        make("Add", ["maps", "maps"], ["doubled"]),
        make("If", ["asked"], ["summed"], then_branch=first, else_branch=second),
    ]
    given = [declare("maps", kind, ["N", 4, 2, 3]), declare("asked", TensorProto.BOOL, [])]
    made = [declare(name, kind, ["N", 4, 2, 3]) for name in ("doubled", "summed")]
    whole = helper.make_graph(nodes, "whole", given, made)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(whole, opset_imports=opsets, ir_version=8).SerializeToString()


def run(serialized, maps, asked):
    onnx.checker.check_model(onnx.load_from_string(serialized), full_check=True)
    return cpu_session(serialized).run(["doubled", "summed"], {"maps": maps, "asked": asked})


def in_order(maps):
    return maps.reshape(len(maps), 4, -1)[..., ORDER]


def test_outputs_are_put_in_order_and_branches_see_them_as_they_were():
    maps = np.random.default_rng(1).normal(size=(2, 4, 2, 3)).astype(np.float32)
    changed = reordered(graph(), {}, {"doubled": ORDER, "absent": ORDER})
    for asked in (np.array(True), np.array(False)):
        doubled, summed = run(graph(), maps, asked)
        found = run(changed, maps, asked)
        np.testing.assert_array_equal(found[0], in_order(doubled))
        np.testing.assert_array_equal(found[1], summed)


def test_inputs_in_order_are_given_to_the_graph_as_it_knows_them():
    maps = np.random.default_rng(1).normal(size=(2, 4, 2, 3)).astype(np.float32)
    both = reordered(graph(), {"maps": ORDER}, {"doubled": ORDER, "summed": ORDER})
    for asked in (np.array(True), np.array(False)):
        for found, own in zip(
            run(both, in_order(maps), asked), run(graph(), maps, asked), strict=True
        ):
            np.testing.assert_array_equal(found, in_order(own))
