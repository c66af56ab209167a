from textcam_client.audit.findings.settings import FindingSettings


def test_tests_share_the_level():
    assert FindingSettings(level=0.06).plan(2).level == 0.03


def test_the_smallest_p_is_below_a_thousandth():
    assert 1 / (FindingSettings().plan(1).permutations + 1) < 0.001
