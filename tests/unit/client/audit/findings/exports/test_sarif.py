import json

import pytest
from audit_findings import hostile_summary, row_ids
from textcam_client.audit.findings.exports.sarif import sarif
from textcam_client.audit.findings.policy import Policy

jsonschema = pytest.importorskip("jsonschema")

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
# The main points of SARIF 2.1.0's schema.
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {"shortDescription": TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "required": ["message"],
                            "properties": {
                                "message": TEXT,
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "partialFingerprints": {"additionalProperties": {"type": "string"}},
                                "locations": {
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "properties": {
                                                    "artifactLocation": {
                                                        "properties": {
                                                            "uri": {
                                                                "type": "string",
                                                                "pattern": r"^[!-~]+$",
                                                            }
                                                        }
                                                    }
                                                }
                                            }
                                        }
                                    }
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def document(policy):
    summary = hostile_summary()
    return json.loads(sarif(summary, row_ids(summary), policy, "1.2.3"))


def test_the_document_keeps_the_schemas_main_points():
    found = document(Policy())
    jsonschema.validate(found, SCHEMA)
    run = found["runs"][0]
    result = run["results"][0]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert result["level"] == "error"
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("cow/im%C3%A4ge%20%23")
    assert uri.endswith("100%25.png")


def test_findings_that_do_not_stop_a_release_are_notes():
    assert document(Policy(kinds=("comparison",)))["runs"][0]["results"][0]["level"] == "note"


def test_another_reader_counts_the_findings(tmp_path):
    sarif_file = pytest.importorskip("sarif.loader")
    path = tmp_path / "findings.sarif"
    summary = hostile_summary()
    path.write_text(sarif(summary, row_ids(summary), Policy(), "1.2.3"), "utf-8")
    loaded = sarif_file.load_sarif_file(str(path))
    assert len(loaded.get_results()) == len(summary.findings)
    assert loaded.get_distinct_tool_names() == ["textcam audit"]
