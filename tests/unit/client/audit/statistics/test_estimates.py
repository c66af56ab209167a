from textcam_client.audit.findings import model
from textcam_client.audit.statistics.estimates import Estimate


def test_the_common_language_of_findings_has_the_same_estimate():
    assert model.Estimate is Estimate
    assert Estimate(1.0, None, None, "no cases").note == "no cases"
