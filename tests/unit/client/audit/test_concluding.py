"""Conclusions of a finished run."""

import re
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_runs import audited, contents, plant
from textcam_client.audit.concluding import conclude, example_rows
from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.findings.model import (
    AuditSummary,
    ClassSummary,
    ConceptSummary,
    Estimate,
    Finding,
)
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.records.writer import RECORDS
from textcam_client.testing import serve_in_memory

QUICK = FindingSettings(permutations=50)
NONE = Estimate(0.0, None, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    with serve_in_memory() as server, server.client() as client:
        audited(client, plant(root / "data", 60), root / "out")
    return root / "out"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(OutputRefused, match=r"holds no finished audit: it has no audit\.json"):
        conclude(tmp_path)


def test_an_audit_against_itself_finds_no_change(run):
    alone = conclude(run, settings=QUICK, report=False)
    beside = conclude(run, settings=QUICK, against=run)
    assert [one.kind for one in beside.summary.findings] == [
        one.kind for one in alone.summary.findings
    ]
    assert "report.html" in contents(run)
    with pytest.raises(OutputRefused):
        conclude(run, settings=QUICK, against=run / "sprites")


def with_more_evidence(run, copy, added):
    """A copy of a run whose first phrase of each answer has more evidence."""
    shutil.copytree(run, copy)
    records = pq.read_table(run / RECORDS)
    phrases = records["phrases"].to_pylist()
    for said in phrases:
        said[0]["evidence"] += added
    place = records.schema.get_field_index("phrases")
    field = records.schema.field(place)
    changed = records.set_column(place, field, pa.array(phrases, field.type))
    pq.write_table(changed, copy / RECORDS)
    return copy


def test_the_page_lists_a_difference_in_its_comparison_alone(run, tmp_path):
    later = with_more_evidence(run, tmp_path / "later", 5.0)
    alone = conclude(later, settings=QUICK, report=False).summary.findings
    beside = conclude(later, settings=QUICK, against=run).summary.findings
    page = (later / "report.html").read_text()
    cards = re.findall(r'id="finding-(C?)\d+"', page)
    assert len(beside) > len(alone)
    assert (cards.count(""), cards.count("C")) == (len(alone), len(beside) - len(alone))
    assert f"{cards.count('C')} difference" in page


def concept(*images):
    return ConceptSummary("fur", "", NONE, None, NONE, 0.0, images)


def finding(*images):
    return Finding("a", "spurious_cue", 0, "cat", ["fur"], "", "", NONE, None, {}, "", images)


def test_maps_are_shown_for_findings_first_then_for_the_strongest_concepts():
    empty = AuditSummary("", "", {}, {}, {}, None, [], [], [], {}, [])
    classes = [
        ClassSummary(0, "cat", 9, None, [concept(1, 2, 3), concept(4, 5)]),
        ClassSummary(1, "dog", 9, None, [concept(6, 7)]),
    ]
    assert example_rows(empty) == []
    found = replace(empty, findings=[finding(*range(20, 30)), finding(1, 20)], classes=classes)
    assert example_rows(found) == [*range(20, 26), 1, 2, 6, 7, 4, 5]
