"""Conclusions of a finished run: findings, their files, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from textcam_client.audit.errors import OutputRefused
from textcam_client.audit.files import write_whole
from textcam_client.audit.findings.changes import compare
from textcam_client.audit.findings.exports.documents import as_json, findings_json
from textcam_client.audit.findings.exports.junit import junit
from textcam_client.audit.findings.exports.sarif import sarif
from textcam_client.audit.findings.model import AuditSummary
from textcam_client.audit.findings.policy import Policy, broken_limits
from textcam_client.audit.findings.settings import FindingSettings
from textcam_client.audit.findings.summary import summarise
from textcam_client.audit.records.description import (
    NAME,
    Description,
    read_description,
    write_description,
)
from textcam_client.audit.records.loading import load_evidence
from textcam_client.audit.records.maps import ExampleMap
from textcam_client.audit.records.reading import record_batches
from textcam_client.audit.report.from_folder import ComparedFolder, write_folder_report
from textcam_client.audit.report.page_data import GroupMap

Maps: TypeAlias = Mapping[int, Sequence[ExampleMap]]
_EXAMPLES_OF_FINDING = 6
_MOST_EXAMPLES = 300


@dataclass(frozen=True)
class Conclusions:
    """Findings of an audit, held against its policy.

    Attributes:
        summary: Classes, findings, and what was not found.
        broken: Sentence for each limit of the policy that is not kept; empty: it passes.
    """

    summary: AuditSummary
    broken: tuple[str, ...]


def conclude(
    folder: Path,
    policy: Policy | None = None,
    settings: FindingSettings | None = None,
    *,
    against: Path | None = None,
    report: bool = True,
    maps: Callable[[Sequence[int]], Maps] | None = None,
) -> Conclusions:
    """Conclude from the records of a finished run, and write the files of it.

    Args:
        folder: Output folder of the run.
        policy: Limits to keep, with concepts that are allowed and banned; None: none.
        settings: Limits of findings; None: the defaults.
        against: Folder of a finished audit of the same data, to compare with.
        report: Write the report as well.
        maps: Returns maps of rows by index, for the report; None: it has none.

    Raises:
        OutputRefused: A folder holds no finished run.
        OSError: A file cannot be written.
    """
    description = _described(folder)
    table = load_evidence(folder, description)
    policy = policy or Policy()
    summary = summarise(table, policy.lists, settings)
    own, other = summary.findings, None
    if against is not None:
        earlier = load_evidence(against, _described(against))
        changes = compare(earlier, table, settings)
        compared = summarise(earlier, policy.lists, settings)
        other = ComparedFolder(against, compared, changes.findings)
        summary = replace(
            summary,
            findings=[*summary.findings, *changes.findings],
            nothing_found=[*summary.nothing_found, *changes.nothing_found],
            notes=[*summary.notes, *changes.notes],
        )
    broken = tuple(broken_limits(summary, policy))
    _write_findings(folder, summary, policy, broken)
    plain = json.loads(as_json(asdict(summary)))
    write_description(folder / NAME, replace(description, summary=plain))
    if report:
        shown = maps(example_rows(summary)) if maps else {}
        paged = replace(summary, findings=own)  # its comparison has the differences
        write_folder_report(folder, paged, other=other, maps=_as_drawn(shown))
    return Conclusions(summary, broken)


def _version() -> str:
    try:
        return metadata.version("textcam-service")
    except metadata.PackageNotFoundError:
        return ""


def _as_drawn(maps: Maps) -> dict[int, list[GroupMap]]:
    return {
        index: [GroupMap(one.phrase, one.values) for one in several]
        for index, several in maps.items()
    }


def _described(folder: Path) -> Description:
    try:
        return read_description(folder / NAME)
    except FileNotFoundError as error:
        raise OutputRefused(
            f"{folder} holds no finished audit: it has no {NAME}; run `textcam audit` into it"
        ) from error


def _write_findings(
    folder: Path, summary: AuditSummary, policy: Policy, broken: tuple[str, ...]
) -> None:
    rows = _row_ids(folder, {index for found in summary.findings for index in found.images})
    documents = {
        "findings.json": findings_json(summary, rows, broken),
        "findings.sarif": sarif(summary, rows, policy, _version()),
        "findings.xml": junit(summary, rows, policy, broken),
    }
    for name, text in documents.items():
        write_whole(folder / name, text.encode("utf-8", "replace"))


def _row_ids(folder: Path, wanted: set[int]) -> Mapping[int, str]:
    found: dict[int, str] = {}
    for batch in record_batches(folder, ["index", "row_id"]):
        indices, names = batch["index"].to_pylist(), batch["row_id"]
        found.update(
            (index, names[place].as_py()) for place, index in enumerate(indices) if index in wanted
        )
    return found


def example_rows(summary: AuditSummary) -> list[int]:
    """Return the rows whose maps are worth showing: of findings first, then of concepts."""
    found = [index for one in summary.findings for index in one.images[:_EXAMPLES_OF_FINDING]]
    for rank in range(max((len(one.concepts) for one in summary.classes), default=0)):
        for one in summary.classes:
            found += [index for own in one.concepts[rank : rank + 1] for index in own.images[:2]]
    return list(dict.fromkeys(found))[:_MOST_EXAMPLES]
