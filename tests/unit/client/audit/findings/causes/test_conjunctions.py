import numpy as np
from audit_tables import evidence_table
from textcam_client.audit.findings.causes.bases import bases_of
from textcam_client.audit.findings.causes.conjunctions import pair_bases
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.maximum import maximum_test
from textcam_client.audit.statistics.units import units_of

SETTINGS = FindingSettings(permutations=199)


def found(wrong_where, n=600, seed=0):
    """Pairs found where images err in 80 % of those that a rule picks, and in 5 % of others."""
    rng = np.random.default_rng(seed)
    there = rng.random((n, 3)) < 0.5
    risky = wrong_where(there)
    wrong = rng.random(n) < np.where(risky, 0.8, 0.05)
    table = evidence_table(there * 1.0, np.zeros(n), wrong.astype(int))
    bases = pair_bases(list(bases_of(units_of(table), SETTINGS)), SETTINGS)
    tested = maximum_test({each.key: each.sample for each in bases}, SETTINGS.plan(1))
    return [
        (pair.present, pair.absent, pair.error_rate)
        for each in bases
        for pair in each.found(tested, 0.05, 0.05)
    ]


def test_errors_with_one_concept_and_without_another_are_found_with_their_rate():
    pairs = found(lambda there: there[:, 0] & ~there[:, 1])
    assert [(present, absent) for present, absent, _ in pairs] == [(0, 1)]
    assert pairs[0][2].low < 0.75 < pairs[0][2].high


def test_errors_of_one_concept_alone_are_no_conjunction():
    assert found(lambda there: there[:, 0]) == []
    assert found(lambda there: ~there[:, 0]) == []


def test_errors_by_chance_are_no_conjunction():
    assert found(lambda there: np.zeros(len(there), bool)) == []


def test_pairs_of_too_few_images_are_not_tested():
    evidence = np.zeros((200, 3))
    evidence[:3, 0] = 1
    table = evidence_table(evidence, np.zeros(200), np.arange(200) % 2)
    assert pair_bases(list(bases_of(units_of(table), SETTINGS)), SETTINGS) == []
