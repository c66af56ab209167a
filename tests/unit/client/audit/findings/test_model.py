"""Findings as data."""

import json
from dataclasses import asdict

from textcam_client.audit.findings.model import Estimate, NothingFound


def test_what_was_not_found_is_json_as_it_stands():
    nothing = NothingFound(0, "cat", "right against wrong", 0.1, {"right": 40, "wrong": 9})
    assert json.loads(json.dumps(asdict(nothing)))["counts"] == {"right": 40, "wrong": 9}
    assert asdict(Estimate(0.5, None, None, "one image"))["low"] is None
