"""Errors are told apart by reason, and each is documented."""

import re

import pytest
from textcam_service import errors

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.TextCamError)
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_a_reason_is_its_own_stable_upper_case_name(error):
    assert "reason" in vars(error)
    assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", error.reason)
    assert [other for other in ALL if other.reason == error.reason] == [error]
    assert error.__doc__.strip().endswith(".")


def test_an_error_carries_field_and_delay():
    error = errors.QueueFull("busy", field="image", retry_after_s=0.5)
    assert (str(error), error.field, error.retry_after_s) == ("busy", "image", 0.5)
    plain = errors.QueueFull("busy")
    assert (plain.field, plain.retry_after_s) == (None, None)
