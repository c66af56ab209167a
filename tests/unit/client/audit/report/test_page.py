"""The page is one strict file: whatever the names are, they stay text."""

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser

import pytest
from audit_pages import CLASSES, CONCEPTS, page_rows, summary_of, thumbnails
from textcam_client.audit.findings.making import ERRORS
from textcam_client.audit.findings.model import AuditSummary
from textcam_client.audit.report.page import PageLimits, report_parts, write_report
from textcam_client.audit.report.page_data import PageRow

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "a\u2028b\x00c\udcff",
    "constructor",
)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.contents = {"script": [], "style": []}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in self.contents:
            self.contents[tag].append("")

    def handle_data(self, data):
        if self.lasttag in self.contents and self.cdata_elem:
            self.contents[self.lasttag][-1] += data
        else:
            self.texts.append(data)

    def value(self, tag, name):
        return [value for own, key, value in self.attributes if (own, key) == (tag, name)]


def text_of(*given, **options):
    return "".join(report_parts(*given, **options))


def rendered(count=60, **changes):
    rows = page_rows(count)
    summary = dataclasses.replace(summary_of(rows), **changes)
    return text_of(summary, rows, thumbnails(rows), CLASSES)


@pytest.fixture(scope="module")
def plain():
    return Page(rendered())


@pytest.fixture(scope="module")
def hostile():
    """Page whose classes, concepts, labels, files, slices and notes are all hostile."""
    classes, concepts = HOSTILE[:5], (HOSTILE * 3)[: len(CONCEPTS)]
    concepts = tuple(f"{text}{number}" for number, text in enumerate(concepts))
    rows = [
        dataclasses.replace(
            row,
            row_id=f"{HOSTILE[row.index % len(HOSTILE)]}/{row.index}",
            slices={HOSTILE[1]: HOSTILE[0]},
        )
        for row in page_rows(60, classes=classes, concepts=concepts)
    ]
    summary = dataclasses.replace(
        summary_of(rows, classes, concepts),
        data=HOSTILE[0],
        model=HOSTILE[1],
        notes=HOSTILE,
        failures=dict.fromkeys(HOSTILE, 1),
        unknown_labels=dict.fromkeys(HOSTILE, 1),
        settings=dict.fromkeys(HOSTILE, HOSTILE[0]),
    )
    return Page(text_of(summary, rows, thumbnails(rows), classes))


def test_hostile_names_add_no_element_and_no_attribute(plain, hostile):
    assert set(hostile.tags) == set(plain.tags)
    for name in ("script", "style", "section", "img", "article"):
        assert hostile.tags.count(name) == plain.tags.count(name), name
    known = {(tag, name) for tag, name, _ in plain.attributes}
    assert {(tag, name) for tag, name, _ in hostile.attributes} == known
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on")]


def test_hostile_names_are_shown_as_they_are(hostile):
    text = "".join(hostile.texts)
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4]):
        assert name in text


def test_links_lead_within_the_page_alone(hostile):
    assert all(link.startswith("#") for link in hostile.value("a", "href"))
    assert all(src.startswith("data:image/webp;base64,") for src in hostile.value("img", "src"))


def test_the_policy_allows_this_style_this_script_and_nothing_else(hostile):
    (policy,) = [
        value for value in hostile.value("meta", "content") if value.startswith("default-src")
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    script, *data = hostile.contents["script"]
    for name, text in (("script-src", script), ("style-src", hostile.contents["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert hostile.value("script", "type") == ["text/plain"] * len(data)
    assert not hostile.value("a", "style")
    assert len(hostile.contents["style"]) == 1


def test_data_blocks_hold_letters_of_base64_alone(hostile):
    for text in hostile.contents["script"][1:]:
        assert re.fullmatch(r"[A-Za-z0-9+/=\s]*", text)


def test_findings_classes_and_the_account_of_the_audit_need_no_script(plain):
    text = " ".join(plain.texts)
    for words in ("green water", "otter", "0.90 logits more", "< 0.001", "at most 5 of 100",
                  "striped coat", "IMAGE_UNREADABLE", "sea lion", "Too few images at night.",
                  "permutations", "harbour 2026"):  # fmt: skip
        assert words in text
    assert len(plain.value("img", "src")) == 16


def test_the_same_audit_is_the_same_file(tmp_path):
    rows = page_rows(40)
    first, second = tmp_path / "first.html", tmp_path / "second.html"
    write_report(first, summary_of(rows), rows, thumbnails(rows), CLASSES)
    write_report(second, summary_of(rows), list(reversed(rows)), thumbnails(rows), CLASSES)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.html", "second.html"]


def test_names_that_are_no_text_are_written_as_question_marks(tmp_path):
    rows = [PageRow(0, "\udcff.jpg", failure="broken")]
    write_report(tmp_path / "page.html", summary_of([]), rows, lambda index: b"", CLASSES)
    assert "\udcff" not in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_audit_of_next_to_nothing_has_a_page(count):
    rows = page_rows(count)
    empty = AuditSummary("none", "m 1", {}, {}, {}, None, [], [], [], {}, [])
    page = Page(text_of(empty, rows, thumbnails(rows), CLASSES))
    assert "No findings" in "".join(page.texts)


def test_the_page_keeps_its_size_and_says_what_it_left_out():
    rows = page_rows(100)
    given = summary_of(rows), rows, thumbnails(rows, noise=60), CLASSES
    whole = text_of(*given)
    limit = len(whole) // 2
    small = text_of(*given, limits=PageLimits(bytes=limit))
    assert limit // 3 < len(small.encode()) <= limit
    assert "Thumbnails have" in small
    assert "70 of 100 images" in text_of(*given, limits=PageLimits(rows=70))


def test_errors_are_told_of_the_class_that_images_were_taken_for():
    found = summary_of(page_rows(60)).findings[0]
    card = rendered(findings=[dataclasses.replace(found, kind="error_cause", basis=ERRORS)])
    assert "Cause of errors, images taken for <b" in card
    assert "Cause of errors in class" not in card
    assert "Spurious cue in class <b" in rendered()
