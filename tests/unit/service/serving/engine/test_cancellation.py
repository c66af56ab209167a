"""Cancellation of work in threads."""

import time

import pytest
from textcam_service.errors import DeadlineExpired
from textcam_service.serving.engine.cancellation import CancellationToken


def test_work_goes_on_while_its_result_is_awaited():
    CancellationToken(None).raise_if_cancelled()
    CancellationToken(time.monotonic() + 60).raise_if_cancelled()


def test_work_ends_once_it_is_cancelled_or_its_deadline_has_passed():
    token = CancellationToken(None)
    token.cancel()
    with pytest.raises(DeadlineExpired):
        token.raise_if_cancelled()
    with pytest.raises(DeadlineExpired, match="while the answer was made; allow more time"):
        CancellationToken(time.monotonic() - 0.001).raise_if_cancelled()
