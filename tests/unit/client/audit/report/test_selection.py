"""Rows that matter stay on a page that cannot list all."""

from audit_pages import page_rows, summary_of
from textcam_client.audit.report.page_data import PageRow
from textcam_client.audit.report.selection import named_rows, select_rows


def rows(count):
    return [PageRow(i, f"{i}", "x", 0, predictions=[(i % 10 == 3, 0.9)]) for i in range(count)]


def test_all_rows_are_listed_in_order_where_they_fit():
    given = rows(9)
    assert select_rows(reversed(given), [], 9) == (given, "")


def test_named_and_wrong_rows_come_first_and_the_rest_at_equal_distances():
    given = rows(100)
    kept, note = select_rows(given, [0, 99], 20)
    indices = [row.index for row in kept]
    assert len(kept) == 20
    assert indices == sorted(indices)
    assert {0, 99} <= set(indices)
    assert {3, 13, 93} <= set(indices)
    assert max(indices[1:-1]) > 80, "the others are spread over the data"
    assert "20 of 100 images" in note


def test_rows_of_findings_are_named_before_those_of_classes():
    summary = summary_of(page_rows(40))
    named = named_rows(summary)
    first = summary.findings[0].images
    assert named[: len(first)] == list(first)
    assert set(summary.classes[4].concepts[0].images) <= set(named)
    assert len(named) == len(set(named))
