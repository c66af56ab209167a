"""Audits: from a model and a data set to findings with an error rate.

    from textcam_client import Client
    from textcam_client.audit import audit

    with Client("localhost:50051") as client:
        result = audit(client, "photos/", "report/")
    for finding in result.summary.findings:
        print(finding.statement)

The packages of the extra `audit` are needed: pip install 'textcam-service[audit]'.
"""

from importlib.util import find_spec as _find_spec

# Imported once the images were asked about: they take 100 MB.
_LATER = ("scipy", "statsmodels", "jinja2")

try:
    for _name in _LATER:
        if _find_spec(_name) is None:
            raise ModuleNotFoundError(name=_name)
    from textcam_client.audit.auditing import AuditResult, Evaluation, audit
    from textcam_client.audit.datasets.dataset import DataOptions, DataSet
    from textcam_client.audit.datasets.opening import open_data_set
    from textcam_client.audit.errors import (
        AuditError,
        AuditStopped,
        DataSetError,
        OutputRefused,
    )
    from textcam_client.audit.findings.policy import Policy, read_policy
    from textcam_client.audit.findings.settings import FindingSettings
    from textcam_client.audit.records.loading import load_evidence
    from textcam_client.audit.records.reading import read_records
    from textcam_client.audit.rows import Row
    from textcam_client.audit.run.progress import Bar, Progress
    from textcam_client.audit.run.settings import AuditSettings
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "textcam_client":
        raise
    raise ModuleNotFoundError(
        f"audits need the package {error.name}: pip install 'textcam-service[audit]'",
        name=error.name,
    ) from error

__all__ = [
    "AuditError",
    "AuditResult",
    "AuditSettings",
    "AuditStopped",
    "Bar",
    "DataOptions",
    "DataSet",
    "DataSetError",
    "Evaluation",
    "FindingSettings",
    "OutputRefused",
    "Policy",
    "Progress",
    "Row",
    "audit",
    "load_evidence",
    "open_data_set",
    "read_policy",
    "read_records",
]
