import json
from dataclasses import replace

from audit_findings import HOSTILE, hostile_summary, row_ids
from textcam_client.audit.findings.exports.documents import as_json, findings_json
from textcam_client.audit.findings.model import Estimate


def test_the_document_holds_each_finding_with_its_images():
    summary = hostile_summary()
    document = json.loads(findings_json(summary, row_ids(summary), ["too many"]))
    assert (document["format"], document["version"]) == ("textcam-findings", 1)
    assert document["passed"] is False
    cue = document["findings"][0]
    assert cue["concepts"] == [HOSTILE]
    assert cue["effect"]["value"] == summary.findings[0].effect.value
    first = summary.findings[0].images[0]
    assert cue["images"][0] == {"index": first, "row_id": f"cow/imäge #{first} 100%.png"}


def test_numbers_that_do_not_exist_are_null():
    summary = replace(hostile_summary(), accuracy=Estimate(float("nan"), None, None, "no cases"))
    assert json.loads(findings_json(summary, {}, []))["accuracy"]["value"] is None
    assert json.loads(as_json({"a": [float("inf"), 1.5]})) == {"a": [None, 1.5]}
