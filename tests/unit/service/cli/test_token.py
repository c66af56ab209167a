"""`textcam token`."""

import pytest
from commands import run


@pytest.mark.parametrize(
    ("option", "value"), [("--rate", "-1"), ("--rate", "nan"), ("--burst", "0")]
)
def test_a_right_out_of_its_range_is_named(option, value):
    code, said = run("token", "create", "someone", option, value)
    assert code in {1, 2}
    assert option.removeprefix("--") in said
    assert "textcam_" not in said
