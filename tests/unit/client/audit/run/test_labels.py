"""Labels of a data set as classes of a model."""

import pytest
from textcam_client.audit.run.labels import Labels

LABELS = Labels(["tabby cat", "Crane", "crane", "7", "owl", "maillot", "maillot"])


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("tabby cat", 0),
        ("Tabby Cat ", 0),
        ("tabby_cat", 0),
        ("crane", 2),
        ("Crane", 1),
        ("CRANE", None),
        ("7", 3),
        ("4", 4),
        ("9", None),
        ("4.0", 4),
        ("0004", 4),
        ("4.5", None),
        (".0", None),
        ("9" * 5000, None),
        ("²", None),
        ("maillot", None),
        ("zebra", None),
        ("", None),
        (None, None),
    ],
)
def test_a_label_names_a_class_by_name_then_loosely_then_by_index(label, index):
    assert LABELS.find(label) == index
