"""The target that options name."""

import click
import pytest
from textcam_client import Contrast, TopK
from textcam_service.cli.shared.targets import parse_target


@pytest.mark.parametrize(
    ("class_name", "against", "top_k", "target"),
    [
        (None, None, None, TopK(1)),
        (None, None, 3, TopK(3)),
        ("tabby", None, None, "tabby"),
        ("12", None, None, 12),
        ("9999999999", None, None, "9999999999"),  # more than the contract's field holds
        ("tabby", "7", None, Contrast("tabby", 7)),
    ],
)
def test_a_class_is_a_name_or_an_index(class_name, against, top_k, target):
    assert parse_target(class_name, against, top_k) == target


@pytest.mark.parametrize(
    ("given", "said"),
    [((None, "lynx", None), "goes with --class"), (("tabby", None, 2), "exclude each other")],
)
def test_options_that_contradict_are_refused(given, said):
    with pytest.raises(click.UsageError, match=said):
        parse_target(*given)
