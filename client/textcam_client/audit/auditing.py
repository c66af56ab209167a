"""Whole audits: run, conclusions, report."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from textcam_client.audit.datasets.dataset import DataOptions, DataSet
from textcam_client.audit.datasets.opening import open_data_set
from textcam_client.audit.findings.model import AuditSummary
from textcam_client.audit.findings.policy import Policy
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.records.description import Description
from textcam_client.audit.run.examples import Examples
from textcam_client.audit.run.progress import Progress
from textcam_client.audit.run.runner import run_audit
from textcam_client.audit.run.settings import AuditSettings
from textcam_client.client import Client


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of an audit's records.

    Attributes:
        policy: Limits to keep, with concepts that are allowed and banned; None: none.
        against: Folder of a finished audit of the same data, to compare with; None: none.
        settings: Limits of findings; None: the defaults.
        report: Write report.html as well.
    """

    policy: Policy | None = None
    against: Path | None = None
    settings: FindingSettings | None = None
    report: bool = True


@dataclass(frozen=True)
class AuditResult:
    """Result of an audit.

    Attributes:
        folder: Output folder, with all files.
        description: Data, model, settings and origins.
        summary: Classes, findings, and what was not found.
        broken: Sentence for each limit of the policy that is not kept; empty: it passes.
    """

    folder: Path
    description: Description
    summary: AuditSummary
    broken: tuple[str, ...]


def audit(
    client: Client,
    data: str | PathLike[str] | DataSet,
    output: str | PathLike[str],
    *,
    options: DataOptions | None = None,
    settings: AuditSettings | None = None,
    evaluation: Evaluation | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Audit a model on a data set: ask for every image, find, and report.

    The same call resumes an audit that was ended by anything. For a finished one it only concludes
    anew, which needs no image.

    Args:
        client: Client of the server.
        data: Path or URL of a folder tree, a list or tars (see open_data_set), or a data set.
        output: Folder for the files: records.parquet, audit.json, failures.csv, sprites/,
            findings.json, findings.sarif, findings.xml and report.html.
        options: Reading of the data set.
        settings: Settings of the run.
        evaluation: Policy, earlier audit, limits of findings; None: the defaults.
        progress: Display of the progress; None: none.

    Raises:
        DataSetError: The data set cannot be read as one.
        OutputRefused: The folder is in use, or holds something else.
        AuditStopped: The run cannot go on; the same call resumes it.
        CallError: The server cannot be reached at the start, or refuses.
        OSError: A file cannot be read or written.
    """
    opened = open_data_set(str(data), options) if isinstance(data, (str, PathLike)) else data
    folder, judged = Path(output), evaluation or Evaluation()
    description = run_audit(client, opened, folder, settings, progress)
    examples = Examples(client, opened, folder, description, settings or AuditSettings())
    from textcam_client.audit.concluding import conclude  # noqa: PLC0415 - scipy and more take 100 MB

    found = conclude(
        folder,
        judged.policy,
        judged.settings,
        against=judged.against,
        report=judged.report,
        maps=examples.maps,
    )
    return AuditResult(folder, description, found.summary, found.broken)
