"""Input of a user's ONNX classifier: what the file states of it, and nodes in front of it.

A served graph takes float32 RGB images (N, 3, h, w). A file may take other values, another order
of the colours, or the colours last; nodes in front of it make these of a served graph's images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from textcam_service.core.types import Preprocessing
from textcam_service.errors import ExportRefused
from textcam_service.offline.export.from_onnx.metadata import (
    ChannelOrder,
    FileStatement,
    statement_of,
)
from textcam_service.offline.export.from_onnx.nodes import weight
from textcam_service.offline.networks.network import (
    StatedPreprocessing,
    standard_preprocessing,
    words,
)

InputLayout = Literal["NCHW", "NHWC"]


_PARTS = ("mean", "std", "resize", "interpolation", "crop_mode")
_USUAL_SIZE = 224


@dataclass(frozen=True)
class OnnxInterface:
    """A caller's choices about a file's input and output; empty: found from the file.

    Attributes:
        layout: Layout of its input.
        channel_order: Order of the colours in its input.
        logits_output: Name of the output, or of a tensor, that holds the logits.
    """

    layout: InputLayout | None = None
    channel_order: ChannelOrder | None = None
    logits_output: str = ""


FROM_FILE = OnnxInterface()


@dataclass(frozen=True)
class OnnxInput:
    """Input of an ONNX file, and how it is fed.

    Attributes:
        name: Its name.
        batch: Number of images that it takes; 0: any number.
        layout: Its layout.
        channel_order: Order of the colours in it.
        preprocessing: Conversion of pixels to the served graph's input.
        notes: Remarks for people.
    """

    name: str
    batch: int
    layout: InputLayout
    channel_order: ChannelOrder
    preprocessing: Preprocessing
    notes: tuple[str, ...]


def read_input(
    path: Path, model: onnx.ModelProto, stated: StatedPreprocessing, interface: OnnxInterface
) -> OnnxInput:
    """Read a file's input; arguments as for reading.read_onnx.

    Raises:
        ExportRefused: It takes no images of three colours, or images of another size.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ExportRefused(
            f"{path} takes {[value.name for value in inputs]}; a classifier takes one input, images"
        )
    kind = inputs[0].type.tensor_type
    shape = [int(dim.dim_value) for dim in kind.shape.dim]  # 0: free
    layout = _input_layout(path, shape, interface.layout)
    file = statement_of(path, model, kind.elem_type, stated)
    extents = shape[2:] if layout == "NCHW" else shape[1:3]
    size = _input_size(path, extents, stated.size, file.preprocessing.size)
    usual = file.preprocessing.over(standard_preprocessing(*(file.preprocessing.size or size)))
    asked = replace(stated, size=size)
    order = interface.channel_order or file.channel_order or "RGB"
    notes = [*_preprocessing_notes(file, usual, asked)]
    if layout == "NHWC":
        notes.append("its input is NHWC: a Transpose is put in front of it")
    if order == "BGR":
        notes.append("its colours are in the order BGR: they are put in this order in front of it")
    return OnnxInput(inputs[0].name, shape[0], layout, order, asked.over(usual), tuple(notes))


def _preprocessing_notes(
    file: FileStatement, usual: Preprocessing, asked: StatedPreprocessing
) -> Iterator[str]:
    """Say which parts of the preprocessing the file states, which were given, and the others."""
    known, given = file.preprocessing.named(), asked.named()
    if known:
        parts = [f"{name} {words(getattr(file.preprocessing, name))}" for name in known]
        yield f"from {file.source}: {', '.join(parts)}"
        other = StatedPreprocessing(**{name: getattr(asked, name) for name in known})
        yield from other.notes(usual, f"given, in place of {file.source}")
    rest = [name for name in _PARTS if name not in {*known, *given}]
    if rest:
        parts = [f"{name} {words(getattr(usual, name))}" for name in rest]
        yield (
            f"assumed as for torchvision's networks, and stated nowhere: {', '.join(parts)}; "
            "--check-images FOLDER tries it on photographs"
        )


def _input_size(
    path: Path, fixed: list[int], stated: tuple[int, int] | None, file: tuple[int, int] | None
) -> tuple[int, int]:
    """Return (height, width) of the images: fixed ones, those stated, the metadata's, or usual.

    Raises:
        ExportRefused: The size stated is not the fixed one.
    """
    usual = max(fixed) or _USUAL_SIZE
    asked = stated or file or (usual, usual)
    height, width = (own or other for own, other in zip(fixed, asked, strict=True))
    if stated is not None and stated != (height, width):
        raise ExportRefused(
            f"{path} does not run on images of {stated[0]} x {stated[1]}, but of {height} x "
            f"{width}; state --input-size {height},{width}"
        )
    return height, width


def _input_layout(path: Path, shape: list[int], stated: InputLayout | None) -> InputLayout:
    """Return the layout of an input: as stated, else where its shape has the three colours.

    Args:
        path: The file.
        shape: The input's, 0 where it is free.
        stated: The layout, if the caller states it.

    Raises:
        ExportRefused: The three colours cannot be there.
    """
    found = stated or ("NHWC" if len(shape) == 4 and shape[3] == 3 != shape[1] else "NCHW")
    if len(shape) != 4 or shape[1 if found == "NCHW" else 3] not in {0, 3}:
        wanted, remedy = "(N, 3, h, w) or (N, h, w, 3)", "export it for images of three colours"
        if stated:
            wanted, remedy = stated, "leave out --layout"
        given = ", ".join(str(extent or "?") for extent in shape)
        raise ExportRefused(f"{path} takes ({given}), not {wanted}; {remedy}")
    return found


def put_in_front(graph: onnx.GraphProto, image: str, layout: str, order: str) -> str:
    """Make a graph take float32 RGB images (N, 3, h, w), in place, and return its input's name.

    Args:
        graph: The graph.
        image: Name of its input.
        layout: Layout of its input.
        order: Order of the colours in its input.
    """
    (own,) = (one for one in graph.input if one.name == image)
    kind = own.type.tensor_type
    steps = _steps(graph, kind.elem_type, layout, order)
    if not steps:
        return image
    names = [f"{image}:fed", *(f"{image}:{step[0]}" for step in steps[:-1]), image]
    for place, (_, operator, further, attributes) in enumerate(steps):
        node = helper.make_node(
            operator, [names[place], *further], [names[place + 1]], **attributes
        )
        graph.node.insert(place, node)
    extents = [dim.dim_value or dim.dim_param or None for dim in kind.shape.dim]
    if layout == "NHWC":
        extents = [extents[axis] for axis in (0, 3, 1, 2)]
    graph.input.remove(own)
    graph.input.append(helper.make_tensor_value_info(names[0], TensorProto.FLOAT, extents))
    return names[0]


def _steps(
    graph: onnx.GraphProto, element: int, layout: str, order: str
) -> list[tuple[str, str, list[str], dict[str, Any]]]:
    """Return nodes, each as a name, an operator, its further inputs and its attributes."""

    def level(value: float) -> str:
        name = f"fed:{value}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    steps: list[tuple[str, str, list[str], dict[str, Any]]] = []
    if order == "BGR":
        steps.append(("bgr", "Gather", [weight(graph, "fed:bgr", (2, 1, 0))], {"axis": 1}))
    if element == TensorProto.UINT8:  # a Cast cuts off, and does not define what lies outside
        steps += [
            ("shifted", "Add", [level(0.5)], {}),
            ("above", "Max", [level(0.0)], {}),
            ("inside", "Min", [level(255.0)], {}),
            ("whole", "Cast", [], {"to": TensorProto.UINT8}),
        ]
    if layout == "NHWC":
        steps.append(("last", "Transpose", [], {"perm": [0, 2, 3, 1]}))
    return steps
