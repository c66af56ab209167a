import pytest
from audit_findings import hostile_summary, row_ids
from textcam_client.audit.findings.exports.junit import junit
from textcam_client.audit.findings.policy import Policy

junitparser = pytest.importorskip("junitparser")


@pytest.fixture(scope="module")
def summary():
    return hostile_summary()


def read(summary, policy, broken=()):
    return junitparser.JUnitXml.fromstring(
        junit(summary, row_ids(summary), policy, broken).encode()
    )


def test_a_finding_that_stops_a_release_is_a_failed_test(summary):
    suite = next(iter(read(summary, Policy())))
    assert (suite.failures, suite.tests) == (1, len(list(suite)))
    case = next(case for case in suite if case.result)
    assert case.classname == "cow"
    assert case.result[0].type == "spurious_cue"
    assert 'gr<a>ss ]]>"&\ufffd\ufffd é' in case.result[0].message
    assert "Images: cow/imäge #" in case.result[0].text


def test_other_findings_pass_and_broken_limits_fail(summary):
    suite = next(iter(read(summary, Policy(kinds=("banned_concept",)), ["Accuracy is low."])))
    failed = [case for case in suite if case.result]
    assert [case.result[0].message for case in failed] == ["Accuracy is low."]
