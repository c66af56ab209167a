from dataclasses import replace

import numpy as np
import pytest
from audit_tables import cue_table
from textcam_client.audit.findings.lists import ConceptLists
from textcam_client.audit.findings.policy import InvalidPolicy, Policy, broken_limits, read_policy
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.summary import summarise
from textcam_client.audit.run.labels import Labels

MODEL = ("guitar", "sea lion")

FULL = """
[limits]
max_findings = 1
kinds = ["spurious_cue"]
min_accuracy = 0.9
max_failed = 0.01

[all]
banned = ["watermark*"]
allowed = ["animal"]

[classes.cow]
allowed = ["fur", "horns"]
"""


def written(tmp_path, text):
    path = tmp_path / "banned.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_policy_is_read_whole(tmp_path):
    policy = read_policy(written(tmp_path, FULL))
    assert policy.max_findings == 1
    assert policy.kinds == ("spurious_cue",)
    assert (policy.min_accuracy, policy.min_class_accuracy, policy.max_failed) == (0.9, None, 0.01)
    assert policy.lists.is_allowed("cow", "animal")
    assert policy.lists.banned_among("dog", ["watermark of a shop"]) == [0]


def test_an_empty_policy_stops_at_any_spurious_cue(tmp_path):
    assert read_policy(written(tmp_path, "")) == Policy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limits]\nmax_finding = 1", "'max_finding' in [limits] is unknown"),
        ("[limits]\nmin_accuracy = 90", "at most 1"),
        ("[limits]\nmin_accuracy = true", "must be a number"),
        ("[limits]\nmin_accuracy = nan", "min_accuracy is nan: it must be 0 or more, at most 1"),
        ("[limits]\nmin_class_accuracy = inf", "at most 1"),
        ("[limits]\nmax_failed = nan", "max_failed is nan"),
        ("[limits]\nmax_findings = 0.9", "max_findings is 0.9: it must be a whole number"),
        ("[limits]\nmax_findings = inf", "must be a whole number"),
        ("[limits]\nmax_findings = -1", "0 or more"),
        ("[limits]\nkinds = []", "name one or more kinds of finding: spurious_cue"),
        ("[limits]\nkinds = 5", "kinds is 5"),
        ("[limits]\nkinds = 'spurious_cue'", "kinds is 'spurious_cue'"),
        ('[limits]\nkinds = ["cue"]', "'cue' is no kind of finding"),
        ("[all]\nbanned = 'grass'", "must be a list of phrases"),
        ("[classes.cow]\nforbidden = []", "'forbidden'"),
        ("[colours]", "'colours' in the file"),
        ("classes = 3", "'classes' must be a table"),
        ("[limits", "cannot be read"),
    ],
)
def test_faults_of_a_policy_are_named(tmp_path, text, told):
    with pytest.raises(InvalidPolicy) as caught:
        read_policy(written(tmp_path, text))
    assert told in str(caught.value)
    assert "banned.toml" in str(caught.value)


@pytest.mark.parametrize("name", ["SEA LION", "sea_lion", "1"])
def test_classes_are_named_as_labels_are(tmp_path, name):
    policy = read_policy(written(tmp_path, f'[classes."{name}"]\nbanned = ["beach"]'))
    lists = policy.of_model(MODEL, Labels(MODEL).find).lists
    assert lists.banned_among("sea lion", ["beach"]) == [0]
    assert lists.banned_among("guitar", ["beach"]) == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["sea lino"], "no class 'sea lino': do you mean 'sea lion'?"),
        (["9"], "no class '9': correct or remove it"),
        (["sea lion", "1"], "'sea lion' and '1' are the same class"),
    ],
)
def test_classes_that_the_model_lacks_are_named_with_near_misses(names, told):
    policy = Policy(ConceptLists(allowed={name: ["fur"] for name in names}))
    with pytest.raises(InvalidPolicy) as caught:
        policy.of_model(MODEL, Labels(MODEL).find)
    assert told in str(caught.value)
    assert "mend the policy and run the same command again" in str(caught.value)


def test_entries_that_decide_nothing_are_told():
    lists = ConceptLists(
        allowed={"guitar": ["string*"]}, banned={"sea lion": ["Beach", "watermrak*"]}
    )
    notes = Policy(lists).without_effect(["sea lion"], ["beach", "strings"])
    assert [note.rpartition(": ")[2] for note in notes] == ["'guitar'.", "'watermrak*'."]
    assert Policy(lists).without_effect(MODEL, ["beach", "strings", "watermrak"]) == []


def test_a_missing_policy_is_named(tmp_path):
    with pytest.raises(InvalidPolicy, match="nowhere"):
        read_policy(tmp_path / "nowhere.toml")


@pytest.fixture(scope="module")
def summary():
    table = cue_table(np.random.default_rng(0), failures={"IMAGE_UNREADABLE": 8})
    return summarise(table, settings=FindingSettings())


def test_findings_of_the_chosen_kinds_count(summary):
    assert "1 findings" in broken_limits(summary, Policy())[0]
    assert broken_limits(summary, Policy(max_findings=1)) == []
    assert broken_limits(summary, Policy(kinds=("banned_concept",))) == []


def test_accuracy_counts_by_the_lower_end_of_its_interval(summary):
    assert summary.accuracy.low < 0.74 < summary.accuracy.value
    policy = Policy(max_findings=9, min_accuracy=0.74, min_class_accuracy=0.74)
    assert len(broken_limits(summary, policy)) == 2
    assert broken_limits(summary, replace(policy, min_accuracy=0.6, min_class_accuracy=0.6)) == []


def test_an_audit_without_an_image_passes_no_policy(summary):
    nothing = replace(summary, counts={**summary.counts, "images_in_statistics": 0}, findings=[])
    assert "can pass no policy" in broken_limits(nothing, Policy())[0]


def test_failures_count_and_labels_must_be_there(summary):
    assert "8 of 400" in broken_limits(summary, Policy(max_findings=9, max_failed=0.01))[0]
    unlabelled = replace(summary, accuracy=None)
    policy = Policy(max_findings=9, min_accuracy=0.5)
    assert "unknown" in broken_limits(unlabelled, policy)[0]
