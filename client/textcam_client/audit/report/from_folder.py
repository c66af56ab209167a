"""The report of a finished audit, from its output folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textcam_client.audit.findings.model import AuditSummary, Finding
from textcam_client.audit.records.description import NAME as DESCRIPTION
from textcam_client.audit.records.description import read_description
from textcam_client.audit.records.reading import read_records
from textcam_client.audit.report.from_records import RowsFromRecords
from textcam_client.audit.report.page import PageLimits, write_report
from textcam_client.audit.report.page_data import GroupMap, OtherAudit, PageRow
from textcam_client.audit.report.sheet_thumbnails import SheetThumbnails

NAME = "report.html"


@dataclass(frozen=True)
class ComparedFolder:
    """Audit of the same data, to compare with.

    Attributes:
        folder: Its output folder.
        summary: What it says.
        findings: Differences that were tested, the strongest first.
    """

    folder: Path
    summary: AuditSummary
    findings: Sequence[Finding] = ()


def write_folder_report(
    folder: Path,
    summary: AuditSummary,
    *,
    other: ComparedFolder | None = None,
    maps: Mapping[int, Sequence[GroupMap]] | None = None,
    limits: PageLimits | None = None,
) -> Path:
    """Write report.html into an audit's output folder, and return its path.

    Args:
        folder: Output folder of a finished audit.
        summary: What the audit says.
        other: Audit to compare with; None: the page has no comparison.
        maps: Maps by row index, where they are at hand.
        limits: Sizes of the page.

    Raises:
        FileNotFoundError: The folder has no audit.json.
        OutputRefused: The folder holds no finished audit, or one of another schema.
        OSError: The report cannot be written.
    """
    compared = other.findings if other else ()
    wanted = [text for own in (*summary.findings, *compared) for text in own.concepts]
    write_report(
        folder / NAME,
        summary,
        _rows(folder, wanted, maps or {}),
        SheetThumbnails(folder),
        read_description(folder / DESCRIPTION).model.class_names,
        other=_other(other) if other else None,
        limits=limits,
    )
    return folder / NAME


def _rows(
    folder: Path, wanted: Sequence[str], maps: Mapping[int, Sequence[GroupMap]]
) -> Iterator[PageRow]:
    convert = RowsFromRecords(wanted)
    for record in read_records(folder):
        yield convert.row(record, maps.get(record.index, ()))


def _other(other: ComparedFolder) -> OtherAudit:
    return OtherAudit(other.summary, list(_rows(other.folder, (), {})), other.findings)
