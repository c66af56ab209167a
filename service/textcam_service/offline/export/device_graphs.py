"""Small graphs that sum activation maps on their device: written into the package's data.

    python -m textcam_service.offline.export.device_graphs

They hold no weights and fit any backbone, so no export writes them. Letters: N images of a batch,
of which M are picked, K sums, D channels, H x W positions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from textcam_service.artefacts.packaged import DEVICE
from textcam_service.runtime.device_tensors import (
    PICKED,
    ROWS,
    SCORES,
    SUMS,
    VALUES,
    WEIGHTS,
)

_OPSET, _IR = 17, 8
_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64
# Tensors of any rank are declared without a shape, which onnx's checker would refuse.
_declare = helper.make_tensor_value_info
_MAPS = _declare(VALUES, _FLOAT, ["N", "D", "H", "W"])
_PLACES = _declare(ROWS, _INT, ["M"])
_pick = helper.make_node("Gather", [VALUES, ROWS], [PICKED], axis=0)


def device_graphs() -> dict[str, bytes]:
    """Build each graph, serialised, by its name.

    rows: VALUES (N, ...), ROWS (M,) -> PICKED (M, ...).
    scores: VALUES (N, D, H, W) -> SCORES (N, D), the mean over positions.
    weighted: VALUES (N, D, H, W), ROWS (M,), WEIGHTS (M, K, D) -> SUMS (M, K, H W).
    """
    flatten = numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flatten")
    return {
        "rows": _graph([_pick], [_declare(VALUES, _FLOAT, None), _PLACES], PICKED),
        "scores": _graph(
            [helper.make_node("ReduceMean", [VALUES], [SCORES], axes=[2, 3], keepdims=0)],
            [_MAPS],
            SCORES,
        ),
        "weighted": _graph(
            [
                _pick,
                helper.make_node("Reshape", [PICKED, "flatten"], ["flat"]),
                helper.make_node("MatMul", [WEIGHTS, "flat"], [SUMS]),
            ],
            [_MAPS, _PLACES, _declare(WEIGHTS, _FLOAT, ["M", "K", "D"])],
            SUMS,
            [flatten],
        ),
    }


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output: str,
    weights: list[onnx.TensorProto] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes, output, inputs, [_declare(output, _FLOAT, None)], weights or []
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    for name, made in device_graphs().items():
        (DEVICE / f"{name}.onnx").write_bytes(made)
