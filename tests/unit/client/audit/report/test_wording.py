"""Numbers read as a person writes them."""

import pytest
from textcam_client.audit.findings.model import Estimate
from textcam_client.audit.report import wording


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (1.1, "1.10", "+1.10"),
        (-0.424, "\N{MINUS SIGN}0.42", "\N{MINUS SIGN}0.42"),
        (0.0, "0.00", "0.00"),
        (-0.001, "0.00", "0.00"),
        (0.001, "0.00", "0.00"),
        (None, "\N{EN DASH}", "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_numbers_have_two_decimals_and_a_true_minus(value, plain, signed):
    assert wording.plain(value) == plain
    assert wording.signed(value) == signed


def test_shares_are_in_percent():
    assert wording.percent(0.9412) == "94.1\N{NO-BREAK SPACE}%"
    assert wording.percent(-0.0002) == "0.0\N{NO-BREAK SPACE}%"
    assert wording.percent(None) == "\N{EN DASH}"


def test_intervals_have_both_ends_or_the_reason_that_they_have_none():
    assert wording.interval(Estimate(1.1, 0.95, 1.26)) == "0.95 to 1.26"
    assert wording.percent_interval(Estimate(0.9, 0.85, 0.93)) == (
        "85.0\N{NO-BREAK SPACE}% to 93.0\N{NO-BREAK SPACE}%"
    )
    assert wording.interval(Estimate(1.1, None, None, "Two images are too few.")) == (
        "Two images are too few."
    )


@pytest.mark.parametrize(
    ("value", "words"), [(0.0004, "< 0.001"), (0.001, "= 0.001"), (0.0321, "= 0.032"),
                         (None, "not tested")]
)  # fmt: skip
def test_p_values_are_written_as_compared(value, words):
    assert wording.p_value(value) == words


def test_every_kind_of_finding_has_words():
    assert all(wording.KINDS.values())
    assert wording.count(10_000) == "10,000"
