"""Rows know if their prediction is right."""

import pytest
from textcam_client.audit.report.page_data import PageRow


@pytest.mark.parametrize(
    ("label_index", "predictions", "right"),
    [
        (2, [(2, 0.9)], True),
        (2, [(1, 0.9), (2, 0.1)], False),
        (None, [(2, 0.9)], None),
        (2, [], None),
    ],
)
def test_right_compares_the_first_prediction_with_the_label(label_index, predictions, right):
    assert PageRow(0, "a", "x", label_index, predictions=predictions).right is right
