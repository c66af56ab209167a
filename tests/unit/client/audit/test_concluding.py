"""Conclusions of a finished run."""

import json
import multiprocessing
import re
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_runs import audited, conclude_often, contents, plant
from textcam_client.audit.concluding import conclude, example_rows
from textcam_client.audit.errors import NotComparable, OutputRefused
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.model import (
    AuditSummary,
    ClassSummary,
    ConceptSummary,
    Estimate,
    Finding,
)
from textcam_client.audit.findings.policy import InvalidPolicy, Policy
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


def test_without_a_report_an_older_one_is_removed(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "out")
    conclude(folder, settings=QUICK)
    assert "report.html" in contents(folder)
    conclude(folder, settings=QUICK, report=False)
    assert "report.html" not in contents(folder)


def test_a_policy_of_another_models_classes_is_refused(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "out")
    before = contents(folder)
    typo = Policy(ConceptLists(banned={"tabby cta": ["fur"]}))
    with pytest.raises(InvalidPolicy, match=r"no class 'tabby cta': do you mean 'tabby cat'"):
        conclude(folder, typo, QUICK)
    assert contents(folder) == before
    shouted = Policy(ConceptLists(banned={"TABBY_CAT": ["*"], "goldfish": ["no such phrase"]}))
    summary = conclude(folder, shouted, QUICK, report=False).summary
    assert {one.class_name for one in summary.findings if one.kind == "banned_concept"} == {
        "tabby cat"
    }
    assert ["'goldfish'." in note for note in summary.notes[-2:]] == [True, False]
    assert "match no phrase" in summary.notes[-1]


def test_an_audit_without_a_common_image_is_no_comparison(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    records = pq.read_table(run / RECORDS)
    place = records.schema.get_field_index("row_id")
    names = pa.array([f"other/{index}" for index in range(len(records))])
    pq.write_table(records.set_column(place, records.schema.field(place), names), other / RECORDS)
    with pytest.raises(NotComparable, match="share no image"):
        conclude(run, settings=QUICK, against=other)


def test_two_processes_do_not_conclude_in_one_folder_at_once(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "out")
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    own = [context.Process(target=conclude_often, args=(folder, seed, done)) for seed in (1, 2)]
    for process in own:
        process.start()
    for process in own:
        process.join(120)
    assert [process.exitcode for process in own] == [0, 0]
    assert done.get(timeout=5) in {1, 2}
    assert not [path for path in folder.rglob("*") if path.name == ".work" or ".part" in path.name]
    stored = json.loads((folder / "audit.json").read_text())["summary"]["settings"]["seed"]
    assert json.loads((folder / "findings.json").read_text())["settings"]["seed"] == stored


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
