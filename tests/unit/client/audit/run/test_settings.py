"""Settings of a run."""

import pytest
from textcam_client.audit.run.settings import AuditSettings


@pytest.mark.parametrize(
    "wrong",
    [{"floor": 1.0}, {"floor": -0.1}, {"concurrency": 0}, {"segment_rows": 0}, {"patience_s": -1}],
)
def test_a_number_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AuditSettings(**wrong)


def test_speed_and_patience_do_not_change_records():
    one = AuditSettings(concurrency=1, patience_s=0, timeout_s=1, segment_rows=3)
    assert one.of_records() == AuditSettings().of_records()
    assert AuditSettings(floor=0.1).of_records() != AuditSettings().of_records()
