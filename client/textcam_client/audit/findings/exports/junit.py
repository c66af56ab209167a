"""Findings as JUnit XML, which release pipelines show as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from textcam_client.audit.findings.model import AuditSummary, Finding
from textcam_client.audit.findings.policy import Policy

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(
    summary: AuditSummary, rows: Mapping[int, str], policy: Policy, broken: Sequence[str]
) -> str:
    """Return the document `findings.xml`.

    Findings that count against the release are failures, comparisons without a finding are tests
    that passed, and those without enough images are skipped. Broken limits are failures too.
    """
    suite = ET.Element("testsuite", name=_text(f"textcam audit of {summary.data}"))
    for finding in summary.findings:
        case = _case(suite, finding.class_name, finding.finding_id)
        if policy.stops(finding):
            failure = ET.SubElement(case, "failure", type=finding.kind)
            failure.set("message", _text(finding.statement))
            failure.text = _text(_details(finding, rows))
        else:
            ET.SubElement(case, "system-out").text = _text(_details(finding, rows))
    for each in summary.nothing_found:
        case = _case(suite, each.class_name, f"{each.class_name}:{each.basis}")
        if each.reason:
            ET.SubElement(case, "skipped", message=_text(each.reason))
    for number, sentence in enumerate(broken, 1):
        case = _case(suite, "policy", f"limit {number}")
        ET.SubElement(case, "failure", type="policy", message=_text(sentence))
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(len(list(suite.iter(tag)))))
    suite.set("errors", "0")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, class_name: str, name: str) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_text(class_name or "model"), name=_text(name)
    )


def _details(finding: Finding, rows: Mapping[int, str]) -> str:
    images = ", ".join(rows[index] for index in finding.images if index in rows)
    return f"{finding.statement}\n{finding.error_rate}\nImages: {images}"


def _text(text: str) -> str:
    """Replace the characters that XML cannot hold."""
    return _NO_XML.sub("\ufffd", text)
