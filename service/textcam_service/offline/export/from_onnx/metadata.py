"""Statements of a user's ONNX file: class names in its metadata, and how it is fed."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import TensorProto

from textcam_service.errors import ExportRefused
from textcam_service.offline.networks.network import NOTHING_STATED, StatedPreprocessing

ChannelOrder = Literal["RGB", "BGR"]

_NAME_KEYS = ("class_names", "names", "classes", "labels")

_ZERO, _HALF, _ONE = ((value,) * 3 for value in (0.0, 0.5, 1.0))
_LEVELS = StatedPreprocessing(mean=_ZERO, std=(1 / 255,) * 3)
# Of ONNX's own image metadata (docs/MetadataProps.md of the standard).
_RANGES = {
    "NominalRange_0_255": _LEVELS,
    "Normalized_0_1": StatedPreprocessing(mean=_ZERO, std=_ONE),
    "Normalized_1_1": StatedPreprocessing(mean=_HALF, std=_HALF),
}
_ORDERS: Mapping[str, ChannelOrder] = {"Rgb8": "RGB", "Bgr8": "BGR"}
_CLASSIFY = "classify"  # Ultralytics' other tasks find boxes or masks


@dataclass(frozen=True)
class FileStatement:
    """Statement of an ONNX file about its input.

    Attributes:
        preprocessing: The parts that it states.
        channel_order: Order of the colours, if stated.
        source: Place of the statement, for people.
    """

    preprocessing: StatedPreprocessing = NOTHING_STATED
    channel_order: ChannelOrder | None = None
    source: str = "its metadata"


def statement_of(
    path: Path, model: onnx.ModelProto, element: int, stated: StatedPreprocessing
) -> FileStatement:
    """Read what a file states: in Ultralytics' metadata, ONNX's own on images, or by its type.

    Args:
        path: The file.
        model: The file's content.
        element: Type of the input's values.
        stated: The caller's statement.

    Raises:
        ExportRefused: It is an Ultralytics model of another task, or takes other values.
    """
    told = {entry.key: entry.value for entry in model.metadata_props}
    if "ultralytics" in (told.get("author", "") + told.get("description", "")).lower():
        found = _ultralytics(path, told)
    else:
        values = _RANGES.get(told.get("Image.NominalPixelRange", ""), NOTHING_STATED)
        order = _ORDERS.get(told.get("Image.BitmapPixelFormat", ""))
        found = FileStatement(values, order)
    if element == TensorProto.FLOAT:
        return found
    if element != TensorProto.UINT8:
        raise ExportRefused(
            f"{path} takes {TensorProto.DataType.Name(element)}; a classifier takes FLOAT, or "
            "UINT8 from 0 to 255: put a Cast before it"
        )
    if stated.mean is not None or stated.std is not None:
        raise ExportRefused(
            f"{path} takes UINT8, the pixels from 0 to 255; leave out --mean and --std"
        )
    levels = replace(found.preprocessing, mean=_LEVELS.mean, std=_LEVELS.std)
    return replace(found, preprocessing=levels, source="its input's type, UINT8, and metadata")


def _ultralytics(path: Path, stated: Mapping[str, str]) -> FileStatement:
    """Return how Ultralytics' classifiers are fed: pixels scaled to 0..1 and nothing else.

    The shorter side is resized to that of the input, or both sides where it is not square.
    """
    task = stated.get("task", _CLASSIFY)
    if task != _CLASSIFY:
        raise ExportRefused(
            f"{path} is an Ultralytics model that was made to {task}; export one that was made "
            f"to {_CLASSIFY}"
        )
    size = _size(stated.get("imgsz", ""))
    square = size is None or size[0] == size[1]
    fed = StatedPreprocessing(
        size,
        max(size) if size is not None else None,
        "bilinear",
        _ZERO,
        _ONE,
        "center" if square else "squash",
    )
    return FileStatement(fed, "RGB", "its metadata, Ultralytics'")


def _size(text: str) -> tuple[int, int] | None:
    """Read "[224, 224]", or "224"; None: it is neither."""
    try:
        value = ast.literal_eval(text)
        height, width = (value, value) if isinstance(value, int) else value
        return int(height), int(width)
    except (ValueError, SyntaxError, TypeError):
        return None


def class_names_in(model: onnx.ModelProto) -> tuple[str, ...]:
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
