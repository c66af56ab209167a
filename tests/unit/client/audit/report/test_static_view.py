"""Findings have their images, and two audits are counted image by image."""

from audit_pages import CLASSES, other_audit, page_rows, summary_of
from textcam_client.audit.report.page_data import OtherAudit, PageRow
from textcam_client.audit.report.static_view import (
    FINDINGS_WITH_IMAGES,
    Examples,
    class_name,
    static_view,
)
from textcam_client.audit.report.thumbnails import FittedThumbnails


def examples_of(rows):
    return Examples(rows, CLASSES, FittedThumbnails([b"webp"] * len(rows)))


def test_examples_are_the_findings_images_that_the_page_lists():
    rows = page_rows(60)
    finding = summary_of(rows).findings[0]
    listed = [row for row in rows if row.index != finding.images[0]]
    (shown,) = examples_of(listed).of([finding])
    assert [listed[own.place].index for own in shown.examples] == list(finding.images[1:])
    first = shown.examples[0]
    row = listed[first.place]
    assert first.name == row.row_id
    assert f"label {row.label}" in first.caption
    assert f"light {row.slices['light']}" in first.caption
    assert first.url == "data:image/webp;base64,d2VicA=="


def test_pictures_are_written_for_the_first_findings_alone():
    rows = page_rows(60)
    finding = summary_of(rows).findings[0]
    shown = examples_of(rows).of([finding] * (FINDINGS_WITH_IMAGES + 1))
    assert shown[-2].examples[0].url
    assert shown[-1].examples[0].url == ""


def test_two_audits_are_compared_over_the_images_that_both_answered():
    def audited(predicted):
        return [
            PageRow(i, f"{i}", "x", 0, predictions=[(own, 0.9)] if own is not None else [])
            for i, own in enumerate(predicted)
        ]

    here, there = audited([0, 0, 1, 1, 0, None]), audited([0, 1, 0, 1, None, 0])
    summary = summary_of(page_rows(40))
    other = OtherAudit(summary, there)
    view = static_view(summary, here, examples_of(here), other, [])
    assert view.comparison.cells == {
        (True, True): 1,
        (True, False): 1,
        (False, True): 1,
        (False, False): 1,
    }
    assert view.comparison.both == 4
    assert len(view.comparison.classes) == len(CLASSES)


def test_notes_of_the_page_follow_those_of_the_audit():
    rows = page_rows(40)
    summary = summary_of(rows)
    view = static_view(summary, rows, examples_of(rows), None, ["Thumbnails are small."])
    assert view.notes == [*summary.notes, "Thumbnails are small."]
    assert view.comparison is None
    assert view.effects.high >= summary.findings[0].effect.high


def test_effects_of_the_comparison_share_the_axis():
    rows = page_rows(40)
    other = other_audit(rows)
    view = static_view(summary_of(rows), rows, examples_of(rows), other, [])
    assert len(view.comparison.findings) == 1
    assert view.comparison.name == "scenes 3.0.0"


def test_two_audits_of_one_model_are_told_apart():
    rows = page_rows(40)
    other = OtherAudit(summary_of(rows), rows)
    view = static_view(summary_of(rows), rows, examples_of(rows), other, [])
    assert view.comparison.name == "scenes 3.1.0, the other audit"


def test_a_class_without_a_name_is_called_by_its_number():
    assert class_name(["otter", ""], 0) == "otter"
    assert class_name(["otter", ""], 1) == "class 1"
    assert class_name([], 7) == "class 7"
