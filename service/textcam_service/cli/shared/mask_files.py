"""Pseudo-masks as files: a label map, contours over the photo, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textcam_client import Box, ExplainResult

    from textcam_service.core.types import BoolArray

# Share of the image; smaller regions of a mask get no box, unless all are smaller.
_SMALLEST_BOX = 0.001


def write_masks(image: Path, result: ExplainResult, stem: Path) -> None:
    """Write STEM.png with the labels, STEM-contours.png and STEM.json.

    Args:
        image: The explained file.
        result: Its explanations; each target is a label.
        stem: Path of the files, without their different endings.

    Raises:
        OSError: A file cannot be written.
        TextCamClientError: The image file is gone or has changed.
    """
    from textcam_client import (  # noqa: PLC0415 - --help stays quick
        draw_contours,
        encode_rle,
        label_image,
        pseudo_labels,
    )

    labels = pseudo_labels(result.explanations)
    contours = draw_contours(result.explanations[0].picture(), labels, fill=0.2)
    for picture, path in ((label_image(labels), stem), (contours, f"{stem}-contours")):
        with whole_file(Path(f"{path}.png")) as part:
            picture.save(part, "PNG")
    entries = []
    for number, explanation in enumerate(result.explanations, 1):
        mask = labels == number
        entries.append(
            {
                "label": number,
                "class_index": explanation.target.class_index,
                "class_name": explanation.target.class_name,
                "probability": explanation.target.probability,
                "area": int(mask.sum()),
                "boxes": boxes(mask),
                "rle": encode_rle(mask),
            }
        )
    with whole_file(Path(f"{stem}.json")) as part:
        part.write_text(json.dumps({"image": str(image), "labels": entries}) + "\n")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and move it to `path` at the end.

    A failure leaves the file at `path` as it was.

    Raises:
        OSError: The file cannot be written, for instance on a full disk; names `path`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def boxes(mask: BoolArray) -> tuple[Box, ...]:
    """List the bounding boxes of a mask's regions, without specks; at least the largest's."""
    from textcam_client import bounding_boxes  # noqa: PLC0415 - --help stays quick

    large = bounding_boxes(mask, min_area=math.ceil(_SMALLEST_BOX * mask.size))
    return large or bounding_boxes(mask, largest=True)
