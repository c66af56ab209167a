"""The record of a request."""

import pytest
from textcam_service.serving.telemetry.record import RequestRecord


def test_stages_are_timed_also_when_they_fail():
    record = RequestRecord("Explain")
    with record.stage("decode"):
        pass
    with pytest.raises(ValueError, match="damaged"), record.stage("inference"):
        raise ValueError("damaged")
    assert list(record.stages) == ["decode", "inference"]
    began, seconds = record.stages["inference"]
    assert began >= record.began
    assert seconds >= 0
    assert record.stage_seconds["inference"] == seconds
