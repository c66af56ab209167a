"""Values of tables as text."""

import pytest
from textcam_client.audit.datasets.dataset import DataOptions, as_text, in_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (3.0, "3"),
        (0.5, "0.5"),
        (7, "7"),
        (" day ", "day"),
        (True, "True"),
    ],
)
def test_values_become_text(value, text):
    assert as_text(value) == text


def test_slices_are_the_other_columns_or_those_that_are_named():
    values = {"path": "a", "label": "b", "mask": "c", "light": "day", "site": 3}
    assert DataOptions().slices(values) == {"light": "day", "site": "3"}
    assert DataOptions(slice_columns=["site"]).slices(values) == {"site": "3"}


def test_a_name_that_is_no_utf8_becomes_text():
    assert in_words("caf\udce9") == "caf\\udce9"
    assert in_words("café") == "café"
