"""The report: one HTML file that fetches nothing and runs its own script alone."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from textcam_client.audit.files import whole_file
from textcam_client.audit.findings.model import AuditSummary
from textcam_client.audit.report import drawings, wording
from textcam_client.audit.report.columns import packed_json
from textcam_client.audit.report.page_data import OtherAudit, PageRow
from textcam_client.audit.report.payload import Payload, class_tables
from textcam_client.audit.report.selection import named_rows, select_rows
from textcam_client.audit.report.static_view import (
    Examples,
    class_name,
    other_name,
    static_view,
    written_images,
)
from textcam_client.audit.report.thumbnails import FittedThumbnails, fit_thumbnails

_PACKAGE = "textcam_client.audit.report"


@dataclass(frozen=True)
class PageLimits:
    """Sizes of the page.

    Attributes:
        bytes: Size of the file; thumbnails are made smaller until it is kept.
        rows: Images that the page lists.
        concepts_per_image: Concepts kept of each image, the strongest of either sign. The others
            are part of the rest.
    """

    bytes: int = 29_000_000
    rows: int = 20_000
    concepts_per_image: int = 24


def write_report(
    path: str | os.PathLike[str],
    summary: AuditSummary,
    rows: Iterable[PageRow],
    thumbnail: Callable[[int], bytes],
    class_names: Sequence[str],
    *,
    other: OtherAudit | None = None,
    limits: PageLimits | None = None,
) -> None:
    """Write the report of an audit, the same bytes for the same input.

    Args:
        path: The HTML file; it is replaced as a whole.
        summary: What the audit says.
        rows: Its images.
        thumbnail: Returns the WebP bytes of a row's thumbnail by the row's index; b"": none.
        class_names: Names of the model's classes, in order of index.
        other: Audit to compare with; None: the page has no comparison.
        limits: Sizes of the page.

    Raises:
        OSError: The file cannot be written.
    """
    parts = report_parts(summary, rows, thumbnail, class_names, other=other, limits=limits)
    with whole_file(Path(path)) as file:
        file.writelines(map(_encoded, parts))


def report_parts(
    summary: AuditSummary,
    rows: Iterable[PageRow],
    thumbnail: Callable[[int], bytes],
    class_names: Sequence[str],
    *,
    other: OtherAudit | None = None,
    limits: PageLimits | None = None,
) -> Iterator[str]:
    """Return the report's text, part by part; arguments as in write_report."""
    limits = limits or PageLimits()
    named = named_rows(summary, other.findings if other else ())
    shown, row_note = select_rows(rows, named, limits.rows)
    data = _data(summary, shown, class_names, other, limits)

    def page(images: FittedThumbnails) -> Iterator[str]:
        notes = [note for note in (row_note, images.note) if note]
        examples = Examples(shown, class_names, images)
        view = static_view(summary, shown, examples, other, notes)
        return _render(view=view, data=data, images=images, row_count=len(shown))

    images = [thumbnail(row.index) for row in shown]
    bare = sum(len(_encoded(part)) for part in page(FittedThumbnails([b""] * len(shown))))
    written = written_images(summary.findings) + written_images(other.findings if other else ())
    bare += written * 2 * max(map(len, images), default=0)
    places = {row.index: place for place, row in enumerate(shown)}
    first = [places[index] for index in named if index in places]
    return page(fit_thumbnails(images, limits.bytes - bare, first))


def _data(
    summary: AuditSummary,
    rows: Sequence[PageRow],
    class_names: Sequence[str],
    other: OtherAudit | None,
    limits: PageLimits,
) -> dict[str, str]:
    """Return the page's data blocks by their id."""
    compared = other.findings if other else ()
    wanted = {text for own in (*summary.findings, *compared) for text in own.concepts}
    payload = Payload(rows, wanted, limits.concepts_per_image)
    if other:
        payload.add_other(other)
    places = {row.index: place for place, row in enumerate(rows)}
    classes = class_tables(summary.classes, payload.concepts, places)
    tables = payload.tables() | {
        "classes": classes,
        "class_names": _used_names(summary, rows, class_names, other),
        "concepts_per_image": limits.concepts_per_image,
        "findings": [
            {"class": own.class_index, "concepts": list(own.concepts), "statement": own.statement}
            for own in summary.findings
        ],
        "other": other_name(summary, other) if other else None,
    }
    return {"tables": packed_json(tables), "columns": payload.columns.packed()}


def _used_names(
    summary: AuditSummary,
    rows: Sequence[PageRow],
    class_names: Sequence[str],
    other: OtherAudit | None,
) -> dict[int, str]:
    used = {own.class_index for own in summary.classes}
    for row in (*rows, *(other.rows if other else ())):
        used.update(index for index, _ in row.predictions)
        used.update({row.label_index} - {None})  # type: ignore[arg-type] # None is taken out
        for target in (row.target, row.error):
            used.update((target.class_index, target.reference_index or 0) if target else ())
    return {index: class_name(class_names, index) for index in sorted(used)}


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "plain": wording.plain,
        "signed": wording.signed,
        "percent": wording.percent,
        "p_value": wording.p_value,
        "interval": wording.interval,
        "percent_interval": wording.percent_interval,
    }
    return environment


def _render(**content: Any) -> Iterator[str]:
    style, script = (_own_text(name) for name in ("report.css", "report.js"))
    return (
        _environment()
        .get_template("report.html")
        .generate(
            style=style,
            script=script,
            policy=_policy(style, script),
            shares=drawings.SHARES,
            width=drawings.WIDTH,
            **content,
        )
    )


def _encoded(part: str) -> bytes:
    return part.encode("utf-8", "replace")


def _own_text(name: str) -> Markup:
    """Return a file beside the template, which is trusted as it stands."""
    text = resources.files(_PACKAGE).joinpath(f"templates/{name}").read_text("utf-8")
    return Markup(text)  # noqa: S704 # a file of this package


def _policy(style: str, script: str) -> str:
    """Return the content-security policy: this style, this script, images within the page."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
