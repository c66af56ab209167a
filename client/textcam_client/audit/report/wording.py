"""Numbers of the report in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from textcam_client.audit.findings.model import Estimate, FindingKind

KINDS: dict[FindingKind, str] = {
    "spurious_cue": "Spurious cue",
    "conjunction": "Two concepts together",
    "error_cause": "Cause of errors",
    "banned_concept": "Banned concept",
    "comparison": "Difference between audits",
}

_NONE = "\N{EN DASH}"
_SMALLEST_P = 0.001


def count(value: float) -> str:
    """Return a number of things: "10,000"."""
    return f"{value:,.0f}"


def plain(value: float | None) -> str:
    """Return a number with two decimals and a true minus sign."""
    if value is None or not math.isfinite(value):
        return _NONE
    return _fixed(value, 2)


def signed(value: float | None) -> str:
    """Return a number with its sign: "+1.10"."""
    text = plain(value)
    return f"+{text}" if text[0].isdigit() and text != "0.00" else text


def percent(value: float | None) -> str:
    """Return a share of 0..1 in percent: "94.1 %", with a space that does not break."""
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{_fixed(100 * value, 1)}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """Return the ends of an estimate, or the reason that there are none."""
    return _ends(estimate, plain)


def percent_interval(estimate: Estimate) -> str:
    """Return the ends of a share in percent, or the reason that there are none."""
    return _ends(estimate, percent)


def p_value(value: float | None) -> str:
    """Return a p value as it is compared: "= 0.032", "< 0.001"."""
    if value is None or not math.isfinite(value):
        return "not tested"
    return "< 0.001" if value < _SMALLEST_P else f"= {value:.3f}"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else "\N{MINUS SIGN}")


def _ends(estimate: Estimate, written: Callable[[float | None], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return estimate.note or "no interval"
    return f"{written(estimate.low)} to {written(estimate.high)}"
