"""Choice of the rows that fit on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textcam_client.audit.findings.model import AuditSummary, Finding
from textcam_client.audit.report.page_data import PageRow


def named_rows(summary: AuditSummary, compared: Sequence[Finding] = ()) -> list[int]:
    """Return the indices of rows that findings and classes name, in order of their naming."""
    found = [index for own in (*summary.findings, *compared) for index in own.images]
    found += [
        index for own in summary.classes for concept in own.concepts for index in concept.images
    ]
    return list(dict.fromkeys(found))


def select_rows(
    rows: Iterable[PageRow], named: Iterable[int], limit: int
) -> tuple[list[PageRow], str]:
    """Return at most `limit` rows in order of index, and a sentence if some were left out.

    Rows that findings and classes name come first, then failures and wrong predictions, then the
    others at equal distances.
    """
    ordered = sorted(rows, key=lambda row: row.index)
    if len(ordered) <= limit:
        return ordered, ""
    wanted = frozenset(named)
    kept: list[PageRow] = []
    ranks = [_rank(row, wanted) for row in ordered]
    for rank in range(3):
        chosen = [row for row, own in zip(ordered, ranks, strict=True) if own == rank]
        kept += _spread(chosen, limit - len(kept))
    note = (
        f"The page lists {len(kept):,} of {len(ordered):,} images: those that findings and classes "
        "name, then wrong predictions, then others at equal distances. Statistics use all."
    )
    return sorted(kept, key=lambda row: row.index), note


def _rank(row: PageRow, wanted: frozenset[int]) -> int:
    if row.index in wanted:
        return 0
    return 1 if row.failure or row.right is False else 2


def _spread(rows: Sequence[PageRow], count: int) -> list[PageRow]:
    """Return `count` of the rows at equal distances."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]
