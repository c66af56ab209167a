import numpy as np
import pytest
from audit_tables import cue_table, evidence_table
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.making import FindingMaker
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.units import units_of

SETTINGS = FindingSettings()


def maker(table, **lists):
    return FindingMaker(table, units_of(table), ConceptLists(**lists), SETTINGS)


def test_a_banned_concept_that_carries_a_class_is_a_finding():
    table = cue_table(np.random.default_rng(0))
    found = maker(table, banned_everywhere=["gra*", "sky"]).banned()
    assert [finding.concepts for finding in found] == [("grass",)]
    assert found[0].kind == "banned_concept"
    assert found[0].effect.low < 0.5 < found[0].effect.high + 0.1
    best = table.evidence.toarray()[:, 1].argmax()
    assert found[0].images[0] == best


def test_a_finding_keeps_its_id_between_audits_of_the_same_data():
    table = cue_table(np.random.default_rng(0))
    ids = [maker(table, banned_everywhere=["grass"]).banned()[0].finding_id for _ in range(2)]
    assert ids[0] == ids[1] == "banned_concept:cow:the list of banned concepts:grass"


@pytest.mark.parametrize("count", [0, 1])
def test_tiny_audits_have_no_findings(count):
    table = evidence_table(np.ones((count, 3)), [0] * count)
    own = maker(table, banned_everywhere=["*"])
    assert own.banned() == []
    assert own.of_errors() == []
