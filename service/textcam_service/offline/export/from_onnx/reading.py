"""Reading and checking of users' ONNX classifiers."""

from __future__ import annotations

import ast
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import compose, inliner, numpy_helper

from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.nodes import run_model, with_outputs
from textcam_service.offline.export.from_onnx.portable import in_float32, in_order, with_older_ir

OWN = "own:"  # sets a file's names apart from the product's
_PASS_ON = {"Identity", "Dropout", "Cast"}  # a probability's Cast is to another float
_RESHAPE = {"Flatten", "Reshape", "Squeeze", "Cast"}
_NAME_KEYS = ("class_names", "names", "classes", "labels")


@dataclass(frozen=True)
class OnnxFile:
    """A user's classifier, without its last softmax and with its constants folded.

    Attributes:
        path: The file.
        model: Its graph; all names begin with OWN. Integers that depend on no image are weights.
        image: Name of its input: (N, 3, h, w) float32.
        logits: Name of its output: (N, C).
        batch: Number of images it takes; 0: any number.
        class_names: Class names from its metadata; empty: there are none.
        ending: Operator after the logits, which is cut off: "Softmax", "LogSoftmax", or empty.
    """

    path: Path
    model: onnx.ModelProto
    image: str
    logits: str
    batch: int
    class_names: tuple[str, ...]
    ending: str = ""


def read_onnx(path: Path, size: tuple[int, int]) -> OnnxFile:
    """Read an ONNX file, with external data beside it. Halves in it become float32.

    Args:
        path: The file.
        size: (height, width) of its input images, pixels.

    Raises:
        ExportRefused: It is unreadable, or no image classifier: not one input (N, 3, h, w) of
            float32 and one output, or its images have another size, or it ends in a sigmoid.
    """
    try:
        given = onnx.load(str(path))
        in_order(given.graph)
        in_float32(given)
        onnx.checker.check_model(given)
        with_older_ir(given)
        given = inliner.inline_local_functions(given)
    except Exception as error:  # protobuf's and onnx's own, and the file system's
        raise ExportRefused(f"{path} is no ONNX model: {error}") from error
    image, batch = _input(path, given.graph, size)
    names = _class_names(given)
    model = compose.add_prefix(given, OWN)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs too
    images = [value for value in model.graph.input if value.name == OWN + image]
    del model.graph.input[:], model.graph.value_info[:]  # the latter may state the batch's size
    model.graph.input.extend(images)
    _fold_integers(path, model, OWN + image)
    ending = _cut_softmax(path, model.graph)
    return OnnxFile(path, model, OWN + image, model.graph.output[0].name, batch, names, ending)


def _input(path: Path, graph: onnx.GraphProto, size: tuple[int, int]) -> tuple[str, int]:
    """Return the input's name and the number of images that it takes (0: any)."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    outputs = [value.name for value in graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ExportRefused(
            f"{path} takes {[value.name for value in inputs]} and answers {outputs}; a classifier "
            "takes one input, images (N, 3, h, w), and answers one output, logits (N, C)"
        )
    kind = inputs[0].type.tensor_type
    shape = [int(dim.dim_value) for dim in kind.shape.dim]  # 0: free
    if kind.elem_type != onnx.TensorProto.FLOAT or len(shape) != 4 or shape[1] not in {0, 3}:
        words = ", ".join(str(extent or "?") for extent in shape)
        raise ExportRefused(
            f"{path} takes {onnx.TensorProto.DataType.Name(kind.elem_type)} ({words}); a "
            "classifier takes FLOAT (N, 3, h, w): put a Transpose or a Cast before it"
        )
    if any(own not in {0, asked} for own, asked in zip(shape[2:], size, strict=True)):
        height, width = (own or asked for own, asked in zip(shape[2:], size, strict=True))
        raise ExportRefused(
            f"{path} does not run on images of {size[0]} x {size[1]}, but of {height} x {width}; "
            f"state --input-size {height},{width}"
        )
    return inputs[0].name, shape[0]


def _fold_integers(path: Path, model: onnx.ModelProto, image: str) -> None:
    """Turn sizes, paddings and indices that depend on no image into weights, in place."""
    graph, of_image, fixed = model.graph, {image}, []
    for node in graph.node:
        inner = any(one.type == onnx.AttributeProto.GRAPH for one in node.attribute)
        if of_image.isdisjoint(node.input) and not inner:
            fixed.append(node)
        else:
            of_image.update(node.output)
    needed = {name for node in fixed for name in node.input}
    outputs = [node.output[0] for node in fixed if len(node.output) == 1]
    small = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    small.graph.name = "constants"
    small.graph.node.extend(fixed)
    small.graph.initializer.extend(one for one in graph.initializer if one.name in needed)
    found = run_model(with_outputs(small, outputs), path, {}) if outputs else {}
    whole = {name: value for name, value in found.items() if value.dtype == np.int64}
    for node in [node for node in fixed if node.output[0] in whole]:
        graph.node.remove(node)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in whole.items())


def _cut_softmax(path: Path, graph: onnx.GraphProto) -> str:
    """Make the logits the graph's output if it is their softmax, in place; return its operator."""
    makers = {name: node for node in graph.node for name in node.output}
    after = []
    last = makers.get(graph.output[0].name)
    while last is not None and last.op_type in _PASS_ON:
        after.append(last)
        last = makers.get(last.input[0])
    shaped = last
    while shaped is not None and shaped.op_type in _RESHAPE:
        shaped = makers.get(shaped.input[0])
    if shaped is not None and shaped.op_type in {"Sigmoid", "HardSigmoid"}:
        raise ExportRefused(
            f"{path} ends in a {shaped.op_type}: its classes do not exclude each other, but the "
            "service computes a softmax over all of them; to get its maps nevertheless, make "
            f"{shaped.input[0].removeprefix(OWN)!r} its output"
        )
    if last is not None and last.op_type in {"Softmax", "LogSoftmax"}:
        graph.output[0].name = last.input[0]
        for node in (*after, last):
            graph.node.remove(node)
        return str(last.op_type)
    return ""


def _class_names(model: onnx.ModelProto) -> tuple[str, ...]:
    """Read names from the metadata: a list, or a mapping by index, as JSON or Python literal."""
    stated = {entry.key: entry.value for entry in model.metadata_props}
    text = next((stated[key] for key in _NAME_KEYS if key in stated), "")
    value: Any = None
    for read in (ast.literal_eval, json.loads):
        with contextlib.suppress(ValueError, SyntaxError):
            value = read(text)
    if isinstance(value, dict):
        with contextlib.suppress(ValueError, TypeError):
            value = [value[index] for index in sorted(value, key=int)]
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()
