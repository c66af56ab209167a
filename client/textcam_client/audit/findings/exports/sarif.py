"""Findings as SARIF 2.1.0, which code hosts show beside a change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from textcam_client.audit.findings.exports.documents import as_json
from textcam_client.audit.findings.model import AuditSummary, Finding
from textcam_client.audit.findings.policy import Policy

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "spurious_cue": "A class is carried by a concept that is no part of it",
    "banned_concept": "A class is carried by a banned concept",
    "comparison": "Two audits of the same data differ",
    "conjunction": "Errors gather where one concept is present and another absent",
    "error_cause": "Errors have a concept in common",
}
_RULE_NAMES = list(_RULES)


def sarif(summary: AuditSummary, rows: Mapping[int, str], policy: Policy, version: str) -> str:
    """Return the document `findings.sarif`.

    Args:
        summary: The audit.
        rows: Row id by index; a finding's first images are its locations.
        policy: Findings that count against the release are errors, the others notes.
        version: Version of this package.
    """
    driver = {
        "name": "textcam audit",
        "version": version,
        "rules": [
            {"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"{summary.data}/{summary.model}"},
        "results": [_result(finding, rows, policy) for finding in summary.findings],
    }
    return as_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(finding: Finding, rows: Mapping[int, str], policy: Policy) -> dict[str, Any]:
    digest = hashlib.sha256(finding.finding_id.encode()).hexdigest()
    return {
        "ruleId": finding.kind,
        "ruleIndex": _RULE_NAMES.index(finding.kind),
        "level": "error" if policy.stops(finding) else "note",
        "message": {"text": f"{finding.statement} {finding.error_rate}"},
        "locations": [_location(rows[index]) for index in finding.images if index in rows],
        "partialFingerprints": {"findingId/v1": digest},
        "properties": {
            "findingId": finding.finding_id,
            "class": finding.class_name,
            "concepts": list(finding.concepts),
            "effect": finding.effect.value,
            "adjustedP": finding.adjusted_p,
        },
    }


def _location(row_id: str) -> dict[str, Any]:
    uri = quote(row_id, safe="/:@!$&'()*+,;=~-._")
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}
