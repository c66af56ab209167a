"""Small ONNX graphs of a few nodes, for runtimes that are compared on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def graph_of(
    nodes: Sequence[object],
    shape: Sequence[int],
    output: Sequence[int | str | None],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
) -> bytes:
    """A serialised graph from "image" (n, *shape) to "logits" (n, *output)."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", *output])],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())
