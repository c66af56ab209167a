from dataclasses import replace

import numpy as np
import pytest
from audit_tables import cue_table
from scipy.sparse import csr_array
from textcam_client.audit.findings.causes.bases import bases_of
from textcam_client.audit.findings.causes.claims import claims_of, merged, repeats, spurious
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.statistics.maximum import maximum_test
from textcam_client.audit.statistics.units import units_of

SETTINGS = FindingSettings(permutations=199)


def claims(table):
    bases = list(bases_of(units_of(table), SETTINGS))
    tested = maximum_test(
        {basis.key: lambda basis=basis: basis.sample(0.25) for basis in bases}, SETTINGS.plan(1)
    )
    return claims_of(bases, tested, SETTINGS, 0.05)


@pytest.fixture(scope="module")
def table():
    return cue_table(np.random.default_rng(0))


def test_a_cue_is_found_by_its_slice_and_by_right_against_wrong(table):
    found = claims(table)
    assert {claim.column for claim in found} == {1}
    by_slice, by_answer = (
        next(claim for claim in found if claim.basis.by_slice is kind) for kind in (True, False)
    )
    assert by_slice.effect.low < 1 < by_slice.effect.high
    assert by_slice.carried
    assert 0.4 < by_answer.effect.value < 0.95  # half of the images without grass are right too


def test_a_slice_alone_or_a_list_makes_it_a_cue_and_right_against_wrong_does_not(table):
    none, listed = ConceptLists(), ConceptLists({"cow": ["fur"]})
    allowing = ConceptLists({"cow": ["grass"]})
    for claim in claims(table):
        assert spurious(claim, "cow", table.names, none) is claim.basis.by_slice
        assert spurious(claim, "cow", table.names, listed)
        assert not spurious(claim, "cow", table.names, allowing)


def test_a_concept_that_others_make_up_for_is_not_carried():
    table = cue_table(np.random.default_rng(1))
    evidence = table.evidence.toarray()
    logit = table.logit - evidence[:, 1]  # another part of the logit takes the cue's place
    found = [c for c in claims(replace(table, logit=logit)) if c.basis.by_slice]
    assert found
    assert not any(claim.carried for claim in found)


def test_concepts_that_go_together_are_one_claim():
    rng = np.random.default_rng(2)
    table = cue_table(rng)
    evidence = table.evidence.toarray()
    evidence[:, 2] = evidence[:, 1] + rng.normal(0, 0.05, len(evidence))
    table = replace(table, evidence=csr_array(evidence))
    units = units_of(table)
    joined = merged(claims(table), units, table.names, "cow", 0.8)
    assert len(joined) == 1
    assert {joined[0].column, *joined[0].alike} == {1, 2}
    assert joined[0].also == ("right against wrong",)


def test_words_of_the_class_put_a_claim_last_and_never_out(table):
    units = units_of(table)
    found = merged(claims(table), units, ("fur", "sea", "sky"), "sea lion", 0.8)
    assert [claim.column for claim in found] == [1]
    assert repeats("Sea", "sea lion")
    assert not repeats("sea grass", "sea lion")


def test_a_test_of_chance_alone_is_not_confirmed_by_the_other_half():
    table = cue_table(np.random.default_rng(3), effect=0.0)
    assert claims(table) == []


def test_the_largest_effect_names_a_claim_even_if_another_is_more_certain():
    """A tenth of the cue, without noise, has the larger statistic."""
    rng = np.random.default_rng(4)
    table = cue_table(rng, effect=3.0)
    evidence = table.evidence.toarray()
    there = table.slices["place"] == "meadow"
    evidence[:, 1] = 3.0 * there + rng.normal(0, 0.5, len(there))
    evidence[:, 2] = 0.5 * there + rng.normal(0, 0.01, len(there))
    table = replace(table, evidence=csr_array(evidence))
    own = [claim for claim in claims(table) if claim.basis.by_slice]
    assert max(own, key=lambda claim: claim.statistic).column == 2
    joined = merged(own, units_of(table), table.names, "cow", 0.8)
    assert [(claim.column, claim.alike) for claim in joined] == [(1, (2,))]


def test_a_concept_stands_with_the_comparison_that_shows_it_most_surely(table):
    """Right against wrong may show a larger effect with a larger p."""
    by_slice, by_answer = sorted(claims(table), key=lambda claim: not claim.basis.by_slice)
    sure = replace(by_slice, adjusted_p=0.0005)
    doubtful = replace(by_answer, adjusted_p=0.04, effect=replace(by_answer.effect, value=9.0))
    joined = merged([doubtful, sure], units_of(table), table.names, "cow", 0.8)
    assert [(claim.adjusted_p, claim.also) for claim in joined] == [
        (0.0005, ("right against wrong",))
    ]
