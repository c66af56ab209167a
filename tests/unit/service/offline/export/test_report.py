"""The sentence about an export names sizes, layer, head and parity."""

from dataclasses import replace

import pytest
from textcam_service.artefacts.backbone import FORWARD, GAP_LINEAR, GRADIENT, NO_HEAD
from textcam_service.core.types import Preprocessing
from textcam_service.offline.export.report import ExportReport

REPORT = ExportReport(
    architecture="tiny",
    target_layer="body",
    head_kind=GRADIENT,
    weights_digest="sha256:ab",
    logits_error=1.5e-6,
    maps_error=2.5e-7,
    gradient_error=3.5e-5,
    maps_shape=(8, 4, 6),
    class_count=5,
    without="",
    preprocessing=Preprocessing(36, 32, 48, "bicubic", (0.5,) * 3, (0.25,) * 3),
)


def test_sizes_are_width_by_height_and_errors_are_told_apart():
    said = str(REPORT)
    assert said.startswith("tiny, 5 classes, images of 48 x 32 after resizing to 36 (bicubic, ")
    assert "8 channels of 4 x 6 at body" in said
    parity = "parity 1.5e-06 (logits), 2.5e-07 (maps) and 3.5e-05 (gradients), sha256:ab"
    assert said.endswith(parity)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (GAP_LINEAR, "body, global average pooling and a linear head, "),
        (GRADIENT, "body, a head with gradients, "),
        (FORWARD, "body, a head without gradients (no luck), for gradient-free methods, "),
        (NO_HEAD, "body, no head (no luck), for methods that need none, "),
    ],
)
def test_each_kind_of_head_is_told_with_the_reason(kind, said):
    assert said in str(replace(REPORT, head_kind=kind, without="no luck"))
