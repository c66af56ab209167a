"""Errors of audits. Each message names the fault and the remedy."""

from __future__ import annotations

from textcam_client.errors import TextCamClientError


class AuditError(TextCamClientError):
    """Base class of the errors of audits."""


class DataSetError(AuditError):
    """The data set cannot be read as one, or its rows cannot be told apart."""


class OutputRefused(AuditError):
    """The output folder is in use, or belongs to another audit."""


class NotComparable(AuditError):
    """Two audits have no image in common."""


class AuditStopped(AuditError):
    """The audit cannot go on; what is done is safe, and the same command resumes it."""
