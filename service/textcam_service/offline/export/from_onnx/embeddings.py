"""Refusal of ONNX files that end in an embedding of the image, not in a classifier."""

from __future__ import annotations

import numpy as np

from textcam_service.core.types import Float32Array
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.nodes import TOLERANCE, reachable
from textcam_service.offline.export.from_onnx.reading import OnnxFile

_LINEAR = {"Gemm", "MatMul", "Einsum", "Conv", "MatMulInteger", "QLinearMatMul", "QLinearConv"}
_NORMS = {
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "LpNormalization",
}
_LENGTHS = {"ReduceL2", "Sqrt"}  # of norms that are written out, which divide by them
# Activations that features pass, and logits of a last convolution do not.
_SMOOTH = {"HardSwish", "HardSigmoid", "Sigmoid", "Gelu", "Erf", "Clip", "Softplus", "Mish"}


def require_classifier(file: OnnxFile, logits: Float32Array) -> None:
    """Refuse a feature extractor, as far as it shows: one without its last, linear layer.

    Args:
        file: The file; a softmax or sigmoid at its end would show that it is a classifier.
        logits: (N, C) outputs for sample images.

    Raises:
        ExportRefused: Its outputs are an image's embedding.
    """
    fault = ""
    if float(np.abs(np.linalg.norm(logits, axis=1) - 1).max()) < TOLERANCE:
        fault = "has length 1"
    elif not _ends_in_linear_layer(file):
        fault = "comes from no linear layer"
    if fault:
        raise ExportRefused(
            f"{file.path} seems to have no classifier: its output of {logits.shape[1]} numbers "
            f"{fault}, as an embedding does; export it with its last, linear layer. If the "
            "numbers are classes, name them by --classes FILE"
        )


def _ends_in_linear_layer(file: OnnxFile) -> bool:
    """Return False if norms, a sum of convolutions or activations come after what is linear."""
    graph = file.model.graph
    of_image = reachable(graph.node, file.image)
    makers = {name: node for node in graph.node for name in node.output}
    last: list[str] = []
    passed, seen, ahead = set[str](), set[str](), [file.logits]
    while ahead:
        name = ahead.pop()
        node = makers.get(name)
        if node is None or name in seen or name not in of_image:
            continue
        seen.add(name)
        if node.op_type in _LINEAR | _NORMS | _LENGTHS:
            last.append(node.op_type)
        else:
            passed.add(node.op_type)
            ahead += node.input
    convolved = bool(last) and all("Conv" in kind for kind in last)
    features = convolved and (len(last) > 1 or not passed.isdisjoint(_SMOOTH))
    divided = "Div" in passed and not _LENGTHS.isdisjoint(last)
    return not (features or divided or (last and _NORMS.issuperset(last)))
