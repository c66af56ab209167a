"""Building, running and comparing ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from textcam_service.core.types import Float32Array, FloatArray
from textcam_service.errors import ExportRefused

TOLERANCE = 1e-4
# Nodes with an output of another layout than their inputs', or always of (N, D, H, W).
_MOVING = {
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gemm", "Einsum", "SpaceToDepth"),
    *("DepthToSpace", "Conv", "ConvTranspose", "QLinearConv", "ConvInteger"),
    *("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "InstanceNormalization", "LRN"),
}
_OPSET = 18  # that any onnxruntime of the service takes


def reachable(nodes: Iterable[onnx.NodeProto], start: str) -> set[str]:
    """Return all tensors that depend on a tensor's values, not only on its size."""
    found = {start}
    for node in nodes:  # ONNX wants them in order
        if node.op_type != "Shape" and not found.isdisjoint(node.input):
            found.update(name for name in node.output if name)
    return found


def channels_last(nodes: Iterable[onnx.NodeProto]) -> frozenset[str]:
    """Return the tensors that are known to hold maps (N, H, W, D).

    A Transpose makes them of (N, D, H, W), as convolutions give them; other nodes but those
    that move dimensions keep them so.
    """
    found: set[str] = set()
    for node in nodes:
        turned = node.op_type == "Transpose"
        if turned and list(attribute(node, "perm", ())) != [0, 2, 3, 1]:
            continue
        if turned or (node.op_type not in _MOVING and not found.isdisjoint(node.input)):
            found.update(node.output)
    return frozenset(found)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute, or the default if it is left out."""
    own = (one for one in node.attribute if one.name == name)
    return next((helper.get_attribute_value(one) for one in own), default)


def weight(graph: onnx.GraphProto, name: str, values: Sequence[int]) -> str:
    """Add an int64 vector to a graph's weights, and return its name."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    return name


def value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """Declare a float tensor (N, *shape)."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])


def with_outputs(model: onnx.ModelProto, outputs: Iterable[str]) -> onnx.ModelProto:
    """Copy a model, with other tensors as its outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return made


def session(model: onnx.ModelProto, what: object) -> ort.InferenceSession:
    """Load a model on the CPU.

    Raises:
        ExportRefused: onnxruntime cannot load it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # failures are raised
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ExportRefused(
            f"{what}: onnxruntime cannot load it: {error}{_remedy(model, error)}"
        ) from error


def _remedy(model: onnx.ModelProto, error: Exception) -> str:
    """Say what to do about a model that is newer than onnxruntime."""
    newer = ("IR version", "opset", "is not a registered function/op")
    if not any(word in str(error) for word in newer):
        return ""
    opset = next((own.version for own in model.opset_import if not own.domain), 0)
    return (
        f"; its opset is {opset} and its IR version {model.ir_version}: export it with an older "
        f"opset, as opset_version={_OPSET} of torch.onnx.export, or install a newer "
        f"onnxruntime than {ort.__version__}"
    )


def run_model(
    model: onnx.ModelProto, what: object, feeds: Mapping[str, FloatArray]
) -> dict[str, Float32Array]:
    """Load and run a graph once, and return its outputs by name.

    Raises:
        ExportRefused: onnxruntime cannot load it, or cannot run it on these inputs.
    """
    return run_loaded(session(model, what), what, feeds)


def run_loaded(
    loaded: ort.InferenceSession, what: object, feeds: Mapping[str, FloatArray]
) -> dict[str, Float32Array]:
    """Run a loaded graph once, and return its outputs by name.

    Raises:
        ExportRefused: onnxruntime cannot run it on these inputs.
    """
    names = [output.name for output in loaded.get_outputs()]
    try:
        return dict(zip(names, loaded.run(names, feeds), strict=True))
    except Exception as error:  # onnxruntime's own
        shapes = ", ".join(str(value.shape) for value in feeds.values())
        raise ExportRefused(f"{what} does not run on {shapes}: {error}") from error


def is_close(found: FloatArray, wanted: FloatArray) -> bool:
    """Return True if two arrays agree on their own scale; arrays of zeros never agree."""
    scale = float(np.abs(wanted).max())
    return scale > 0 and float(np.abs(found - wanted).max()) <= TOLERANCE * scale
