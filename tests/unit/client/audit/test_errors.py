"""Errors of audits."""

import pytest
from textcam_client import TextCamClientError
from textcam_client.audit import errors


@pytest.mark.parametrize("name", ["DataSetError", "OutputRefused", "NotComparable", "AuditStopped"])
def test_each_is_an_error_of_the_client(name):
    assert issubclass(getattr(errors, name), errors.AuditError)
    assert issubclass(errors.AuditError, TextCamClientError)
