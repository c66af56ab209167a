"""Reading and checking of users' ONNX classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnx
from onnx import compose, inliner, numpy_helper

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.feeding import (
    FROM_FILE,
    OnnxInterface,
    put_in_front,
    read_input,
)
from textcam_service.offline.export.from_onnx.metadata import class_names_in
from textcam_service.offline.export.from_onnx.nodes import run_model, with_outputs
from textcam_service.offline.export.from_onnx.portable import (
    in_float32,
    in_order,
    taken,
    with_older_ir,
)
from textcam_service.offline.networks.network import NOTHING_STATED, StatedPreprocessing

OWN = "own:"  # sets a file's names apart from the product's
_PASS_ON = {"Identity", "Dropout", "Cast"}  # a probability's Cast is to another float
_RESHAPE = {"Flatten", "Reshape", "Squeeze", "Cast"}


@dataclass(frozen=True)
class OnnxFile:
    """A user's classifier, without its last softmax or sigmoid and with its constants folded.

    Attributes:
        path: The file.
        model: Its graph; all names begin with OWN. Integers that depend on no image are weights.
        image: Name of its input: (N, 3, h, w) float32, RGB.
        logits: Name of its output: (N, C).
        batch: Number of images it takes; 0: any number.
        class_names: Class names from its metadata; empty: there are none.
        preprocessing: Conversion of pixels to its input.
        notes: Remarks on how it was read, for people.
        ending: Operator after the logits, which is cut off: "Softmax", "LogSoftmax", "Sigmoid",
            or empty.
    """

    path: Path
    model: onnx.ModelProto
    image: str
    logits: str
    batch: int
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()
    ending: str = ""


def read_onnx(
    path: Path,
    stated: StatedPreprocessing = NOTHING_STATED,
    interface: OnnxInterface = FROM_FILE,
) -> OnnxFile:
    """Read an ONNX file, with external data beside it. Halves in it become float32.

    Args:
        path: The file.
        stated: Preprocessing that takes the place of what the file states. What neither states
            is as for torchvision's networks.
        interface: Choices about its input and output.

    Raises:
        ExportRefused: It is unreadable, or no image classifier: not one input, images of three
            colours in float32 or uint8, or several outputs and none chosen, or its images have
            another size, or it ends in a HardSigmoid.
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
    fed = read_input(path, given, stated, interface)
    logits = _logits(path, given.graph, interface.logits_output)
    names = class_names_in(given)
    model = compose.add_prefix(given, OWN)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs too
    graph = model.graph
    images = [value for value in graph.input if value.name == OWN + fed.name]
    del graph.input[:], graph.value_info[:]  # the latter may state the batch's size
    graph.input.extend(images)
    if [value.name for value in graph.output] != [OWN + logits]:
        _keep_only(graph, OWN + logits)
    image = put_in_front(graph, OWN + fed.name, fed.layout, fed.channel_order)
    _fold_integers(path, model, image)
    ending = _cut_probabilities(path, graph)
    name = graph.output[0].name
    return OnnxFile(
        path, model, image, name, fed.batch, names, fed.preprocessing, fed.notes, ending
    )


def _logits(path: Path, graph: onnx.GraphProto, stated: str) -> str:
    """Return the name of the output that holds the logits.

    Raises:
        ExportRefused: There are several and none is chosen, or none has the name.
    """
    outputs = [value.name for value in graph.output]
    made = {name for node in graph.node for name in node.output if name}
    if stated and stated not in made:
        near = get_close_matches(stated, made - set(outputs), 3, 0.6)
        raise ExportRefused(f"{path} has no output {stated!r}; it answers {outputs}{_or(near)}")
    if stated or len(outputs) == 1:
        return stated or outputs[0]
    shapes = ", ".join(f"{value.name!r} {_extents(value)}" for value in graph.output)
    raise ExportRefused(
        f"{path} answers {shapes}; a classifier answers one output, logits (N, C): choose it with "
        "--logits-output"
    )


def _or(near: Sequence[str]) -> str:
    return f", and computes {', '.join(near)}" if near else ""


def _extents(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return "(" + ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims) + ")"


def _keep_only(graph: onnx.GraphProto, output: str) -> None:
    """Make a tensor a graph's only output, in place, without what it does not need."""
    needed, nodes = {output}, list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            nodes.insert(0, node)
            needed.update(taken(node))
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.append(onnx.ValueInfoProto(name=output))


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


def _cut_probabilities(path: Path, graph: onnx.GraphProto) -> str:
    """Make the logits the graph's output in place of their softmax or sigmoid.

    Returns:
        The operator that was cut off; empty: the output is none of these.
    """
    makers = {name: node for node in graph.node for name in node.output}
    after = []
    last = makers.get(graph.output[0].name)
    while last is not None and last.op_type in _PASS_ON:
        after.append(last)
        last = makers.get(last.input[0])
    shaped = last
    while shaped is not None and shaped.op_type in _RESHAPE:
        shaped = makers.get(shaped.input[0])
    if shaped is not None and shaped.op_type == "HardSigmoid":
        raise ExportRefused(
            f"{path} ends in a HardSigmoid, but the service computes a sigmoid or a softmax of "
            f"logits; to get its maps nevertheless, make {shaped.input[0].removeprefix(OWN)!r} its "
            "output, and give --multi-label if its classes do not exclude each other"
        )
    if shaped is not None and shaped.op_type == "Sigmoid":
        shaped.op_type = "Identity"  # a reshape may follow
        return "Sigmoid"
    if last is not None and last.op_type in {"Softmax", "LogSoftmax"}:
        graph.output[0].name = last.input[0]
        for node in (*after, last):
            graph.node.remove(node)
        return str(last.op_type)
    return ""
