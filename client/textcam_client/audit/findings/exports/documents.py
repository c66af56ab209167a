"""Findings as one JSON document, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from textcam_client.audit.findings.model import AuditSummary, Finding

FORMAT = "textcam-findings"
VERSION = 1
"""Raised when a field is renamed, removed or changes its meaning."""


def findings_json(summary: AuditSummary, rows: Mapping[int, str], broken: Sequence[str]) -> str:
    """Return the document `findings.json`.

    Args:
        summary: The audit.
        rows: Row id by index, for the images of findings.
        broken: Sentences about broken limits of the policy; empty: it passes, or there is none.

    The document is an object: `format`, `version`, `data`, `model`, `passed`, `broken_limits`,
    `counts`, `accuracy`, `settings`, `notes`, `findings` and `nothing_found`. Findings are as in
    Finding, with `images` a list of {"index", "row_id"}. A number that does not exist is null.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "data": summary.data,
        "model": summary.model,
        "passed": not broken,
        "broken_limits": list(broken),
        "counts": dict(summary.counts),
        "accuracy": None if summary.accuracy is None else asdict(summary.accuracy),
        "settings": dict(summary.settings),
        "notes": list(summary.notes),
        "findings": [_finding(finding, rows) for finding in summary.findings],
        "nothing_found": [asdict(each) for each in summary.nothing_found],
    }
    return as_json(document)


def as_json(document: Any) -> str:
    """Return a document as indented JSON with a final line end; numbers that are none are null."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finding(finding: Finding, rows: Mapping[int, str]) -> dict[str, Any]:
    images = [{"index": index, "row_id": rows.get(index, "")} for index in finding.images]
    return {**asdict(finding), "images": images}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
