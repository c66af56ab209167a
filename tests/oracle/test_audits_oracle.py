"""Findings of an audit against the truth of rendered scenes, by the twins of build/scenes.

By chance, an audit has a finding with a p this small in one of a hundred cases. It would have to be
of the right class and name its cue, twice. tests/bench/bench_audits.py is the longer form.
"""

import numpy as np
import pytest
from audit_scenes import CUE_CLASSES, NAMES, TRUTH, Network, bundles, draw, table
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.summary import summarise
from textcam_service.offline.evaluation.spurious_cues import cue_phrases
from textcam_service.scenes.classes import BIASED

COUNT = 200

pytestmark = pytest.mark.skipif(
    not (TRUTH / "biased-bank").is_dir(),
    reason=f"NOT TESTED: {TRUTH}/biased-bank is missing; tests/bench/bench_truth.py makes it",
)


@pytest.fixture(scope="module")
def twins():
    return bundles()


@pytest.fixture(scope="module")
def scenes(twins):
    return draw(twins, 40, dict.fromkeys(CUE_CLASSES, COUNT))


def audit(twins, scenes, twin, lists=None):
    network = Network.of(twins[twin])
    return summarise(table(network, scenes, twin, slices=("floor", "yellow sphere")), lists)


def test_both_cues_are_the_first_findings_of_their_classes(twins, scenes):
    findings = audit(twins, scenes, "biased").findings
    for label in CUE_CLASSES:
        first = next(finding for finding in findings if finding.class_index == label)
        assert first.kind == "spurious_cue"
        assert first.concepts[0] in cue_phrases(label, BIASED)
        assert first.adjusted_p < 0.01
        assert first.effect.low > 0.25 or first.effect.high < -0.25
        assert set(scenes["label"][list(first.images)]) == {label}


def test_the_unbiased_twin_has_no_spurious_finding_on_the_same_scenes(twins, scenes):
    summary = audit(twins, scenes, "unbiased")
    assert [finding for finding in summary.findings if finding.kind == "spurious_cue"] == []
    by_cue = {(each.class_index, each.basis): each.largest_missed for each in summary.nothing_found}
    assert by_cue[8, "slice yellow sphere: no against yes"] < 2.5


def test_a_list_that_allows_a_cue_withdraws_it(twins, scenes):
    allowed = ConceptLists({NAMES[4]: ["*"]})
    kinds = {
        (finding.class_index, finding.kind)
        for finding in audit(twins, scenes, "biased", allowed).findings
        if finding.adjusted_p is not None
    }
    assert (4, "spurious_cue") not in kinds
    assert (8, "spurious_cue") in kinds


def test_concepts_rest_and_bias_add_up_to_the_logit(twins, scenes):
    own = table(Network.of(twins["biased"]), scenes, "biased")
    total = np.asarray(own.evidence.sum(1)).ravel() + own.rest + own.bias
    assert total == pytest.approx(own.logit, abs=1e-3)
