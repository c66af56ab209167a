"""Checks of requests to the made-up explainer, with the service's reasons and fields.

tests/integration/client/test_fake_server.py compares them with the service's own.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from textcam.v1 import explainer_pb2 as pb
from textcam.v1 import types_pb2 as types_pb

from textcam_client._image_files.formats import SERVED
from textcam_client._image_files.orientation import DAMAGE
from textcam_client._image_files.png import without_long_metadata
from textcam_client.images import upright_rgb

# The service's limits, by default.
MAX_REQUEST_ID = 128
MAX_PHRASES = 20
MAX_TARGETS = 10
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_IMAGE_BYTES = 20 * 2**20
MAX_IMAGE_PIXELS = 50_000_000


class Refused(Exception):
    """Rejection of a request; the attributes are those of a CallError."""

    def __init__(
        self, code: Any, reason: str, message: str, violations: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.retry_after: float | None = None


def invalid(reason: str, field: str, message: str) -> Refused:
    """Build the rejection of an invalid field."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, reason, message, [(field, message)])


def not_found(reason: str, field: str, message: str) -> Refused:
    """Build the rejection of an unknown name."""
    return Refused(grpc.StatusCode.NOT_FOUND, reason, message, [(field, message)])


def check_options(request: pb.ExplainRequest) -> None:
    """Check the options that depend on neither model nor image; raises Refused."""
    if len(request.request_id) > MAX_REQUEST_ID:
        message = f"a request id has at most {MAX_REQUEST_ID} characters"
        raise invalid("INVALID_ARGUMENT", "request_id", message)
    if request.heatmap not in types_pb.HeatmapForm.values():
        raise invalid("INVALID_ARGUMENT", "heatmap", f"no heatmap form {request.heatmap}")
    if request.lane not in types_pb.Lane.values():
        raise invalid("INVALID_ARGUMENT", "lane", f"no lane {request.lane}")
    if request.HasField("max_phrases"):
        _require_range("max_phrases", request.max_phrases, 1, MAX_PHRASES)
    if not 0 <= request.min_probability <= 1:
        message = f"min_probability is 0 to 1, not {request.min_probability}"
        raise invalid("INVALID_ARGUMENT", "min_probability", message)
    for kind in request.kinds:
        if kind == types_pb.PHRASE_KIND_UNSPECIFIED or kind not in types_pb.PhraseKind.values():
            raise invalid("INVALID_ARGUMENT", "kinds", f"no kind of phrases {kind}")
    _require_range("prediction_count", request.prediction_count, 0, None)


def read_page(request: pb.ListModelsRequest) -> tuple[int, int]:
    """Return the index of a page's first model, and the page's size; raises Refused."""
    _require_range("page_size", request.page_size, 0, None)
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    if not request.page_token:
        return 0, size
    found = re.fullmatch(r"after:(\d{1,9})", request.page_token)
    if found is None:
        raise invalid("INVALID_ARGUMENT", "page_token", f"no page token: {request.page_token!r}")
    return int(found[1]), size


def page_token(start: int) -> str:
    """Return the token of the page that begins at `start`."""
    return f"after:{start}"


def check_bank(request: pb.ExplainRequest, *, calibrated: bool, kinds: bool) -> None:
    """Check the options that only some banks and vocabularies support; raises Refused."""
    if request.min_probability > 0 and not calibrated:
        message = "the bank has no calibration: its phrases have no probability"
        raise invalid("INVALID_ARGUMENT", "min_probability", message)
    if request.kinds and not kinds:
        raise invalid("INVALID_ARGUMENT", "kinds", "the vocabulary does not say its phrases' kinds")


def read_target(
    target: types_pb.Target, class_names: Sequence[str]
) -> int | list[tuple[int, int | None]]:
    """Return the number of most probable classes, or classes with their reference classes.

    Raises:
        Refused: A class is unknown, or the number of classes is out of range.
    """
    kind = target.WhichOneof("of")
    most = min(MAX_TARGETS, len(class_names))
    if kind == "classes":
        refs = target.classes.classes
        _require_range("target.classes.classes", len(refs), 1, most)
        return [
            (_class_index(ref, class_names, f"target.classes.classes[{place}]"), None)
            for place, ref in enumerate(refs)
        ]
    if kind == "contrast":
        pair = target.contrast
        chosen = _class_index(pair.target, class_names, "target.contrast.target")
        reference = _class_index(pair.reference, class_names, "target.contrast.reference")
        if chosen == reference:
            raise invalid("INVALID_ARGUMENT", "target.contrast.reference", "two different classes")
        return [(chosen, reference)]
    count: int = target.top_k.k if kind == "top_k" else 1
    _require_range("target.top_k.k", count, 1, most)
    return count


def open_image(request: pb.ExplainRequest) -> tuple[Image.Image, str]:
    """Return the request's image as RGB, and the decoder's name; raises Refused."""
    kind = request.WhichOneof("image")
    if kind is None:
        raise invalid("EMPTY_IMAGE", "image", "the request has no image")
    if kind == "pixels":
        pixels = _pixels(request.pixels)
        _require_pixels(pixels.shape[1], pixels.shape[0], "pixels")
        return Image.fromarray(pixels), "raw"
    image = _opened(request.encoded)
    _require_pixels(image.width, image.height, "encoded")
    try:
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise invalid("ANIMATED_IMAGE", "encoded", "the image has several frames")
        upright, note = upright_rgb(image)
        return upright, f"pillow/{image.format} {note}".rstrip()
    except DAMAGE as error:
        message = f"the file ends early or is damaged: {error}"
        raise invalid("TRUNCATED_IMAGE", "encoded", message) from error


def _class_index(ref: types_pb.ClassRef, class_names: Sequence[str], field: str) -> int:
    kind = ref.WhichOneof("by")
    if kind is None:
        raise invalid("INVALID_ARGUMENT", field, "a class is named by its index or its name")
    if kind == "index":
        if not 0 <= ref.index < len(class_names):
            message = f"no class {ref.index} of {len(class_names)}"
            raise not_found("UNKNOWN_CLASS", f"{field}.index", message)
        return int(ref.index)
    given = ref.name.strip()
    own = {name.strip(): index for index, name in enumerate(class_names)}
    folded = {name.strip().casefold(): index for index, name in enumerate(class_names)}
    # An exact match goes first, since names may differ in letter case alone.
    index = own.get(given, folded.get(given.casefold()))
    if index is None:
        raise not_found("UNKNOWN_CLASS", f"{field}.name", f"no class {ref.name!r}")
    return index


def _pixels(tensor: types_pb.Tensor) -> NDArray[np.uint8]:
    shape = tuple(tensor.shape)
    if tensor.dtype != types_pb.Tensor.D_TYPE_UINT8:
        raise invalid("INVALID_TENSOR", "pixels.dtype", "pixels are uint8")
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise invalid("INVALID_TENSOR", "pixels.shape", f"pixels are [h, w, 3], not {list(shape)}")
    if math.prod(shape) != len(tensor.data):
        message = f"{len(tensor.data)} bytes are no array of shape {list(shape)}"
        raise invalid("INVALID_TENSOR", "pixels.data", message)
    return np.frombuffer(tensor.data, np.uint8).reshape(shape)


def _opened(encoded: bytes) -> Image.Image:
    if not encoded:
        raise invalid("EMPTY_IMAGE", "encoded", "the image has 0 bytes")
    if len(encoded) > MAX_IMAGE_BYTES:
        raise invalid("IMAGE_TOO_LARGE", "encoded", f"more than {MAX_IMAGE_BYTES:,} bytes")
    try:
        return Image.open(io.BytesIO(without_long_metadata(encoded)), formats=SERVED)
    except UnidentifiedImageError as error:
        raise invalid("UNSUPPORTED_IMAGE", "encoded", f"no image of {SERVED}") from error
    except Image.DecompressionBombError as error:
        raise invalid("IMAGE_TOO_LARGE", "encoded", str(error)) from error
    except DAMAGE as error:
        raise invalid("INVALID_IMAGE", "encoded", f"a damaged header: {error}") from error


def _require_pixels(width: int, height: int, field: str) -> None:
    if width < 1 or height < 1:
        raise invalid("EMPTY_IMAGE", field, f"the image is {width} x {height} pixels")
    if width * height > MAX_IMAGE_PIXELS:
        raise invalid("IMAGE_TOO_LARGE", field, f"more than {MAX_IMAGE_PIXELS:,} pixels")


def _require_range(field: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise invalid("INVALID_ARGUMENT", field, f"{field} is {span}, not {value}")
