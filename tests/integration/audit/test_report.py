"""The report in a browser: views, filter, switches, keyboard; without scripts; hostile names.

Needs Chromium at /usr/bin/chromium or in $CHROMIUM, and playwright; says so where one is missing.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from audit_pages import CLASSES, CONCEPTS, other_audit, page_rows, summary_of, thumbnails
from textcam_client.audit.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED: playwright is missing")
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"NOT TESTED in a browser: there is no {CHROMIUM}"
)
ROWS = 1200


@pytest.fixture(scope="module")
def rows():
    return page_rows(ROWS, maps=range(ROWS))


@pytest.fixture(scope="module")
def report(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    pictures = thumbnails(rows)
    write_report(path, summary_of(rows), rows, pictures, CLASSES, other=other_audit(rows))
    return path


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def show(browser, report):
    """Opens the report, or another file, at a view; fails if the page logs an error."""
    contexts, errors = [], []

    def opened(view="", path=report, **settings):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.goto(f"file://{path}{view}")
        if settings.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


def shown_view(page):
    return page.evaluate("[...document.querySelectorAll('.view:not([hidden])')].map(v => v.id)")


def number_of(page):
    return int(page.inner_text("#image-count").split()[0].replace(",", ""))


def test_findings_come_first_with_their_numbers_and_pictures(show, rows):
    page = show()
    assert shown_view(page) == ["findings"]
    first = page.locator(".finding").first
    text = first.inner_text()
    for words in (
        "green water",
        "otter",
        "+0.90 logits",
        "0.79 to 1.01",
        "< 0.001",
        "at most 5 of",
    ):
        assert words in text
    assert first.locator("a.tile img").count() == 8
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_views_are_reached_by_links_and_keys(show):
    page = show()
    for key, view in (("c", "classes"), ("i", "images"), ("a", "overview"), ("d", "comparison")):
        page.keyboard.press(key)
        page.wait_for_selector(f"html[data-view='{view}']")
        page.wait_for_selector(f"#{view} h1:focus")
        assert shown_view(page) == [view]
    page.click("nav a[href='#findings']")
    assert shown_view(page) == ["findings"]
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.uncheck("#keys")
    page.click("#help-close")
    page.keyboard.press("c")
    assert shown_view(page) == ["findings"]


def test_filters_give_the_images_that_the_data_give(show, rows):
    page = show("#images")
    assert number_of(page) == ROWS
    page.select_option("[name=label]", "otter")
    assert number_of(page) == sum(row.label == "otter" for row in rows)
    page.select_option("[name=state]", "wrong")
    page.select_option("[name='slice:light']", "night")
    expected = [
        row
        for row in rows
        if row.label == "otter" and row.right is False and row.slices.get("light") == "night"
    ]
    assert number_of(page) == len(expected) > 0
    page.fill("[name=q]", expected[0].row_id[-9:])
    assert number_of(page) == 1
    assert "slice%3Alight=night" in page.url, "the view can be shared"
    page.click("text=Clear")
    assert number_of(page) == ROWS
    page.fill("[name=concept]", "green water")
    page.fill("[name=least]", "1.5")
    wanted = sum(
        row.target is not None and row.target.concepts.get("green water", 0) >= 1.5 for row in rows
    )
    assert number_of(page) == wanted > 0


def test_images_are_ordered_by_any_concept(show, rows):
    page = show("#images?concept=red+paint&sort=concept")
    best = sorted(
        rows, key=lambda row: -(row.target.concepts.get("red paint", 0) if row.target else 0)
    )
    names = page.locator("#grid .cell").evaluate_all(
        "cells => cells.sort((a, b) => a.dataset.at - b.dataset.at).map(c => c.firstChild.title)"
    )
    assert names[:10] == [row.row_id for row in best[:10]]
    page.select_option("[name=order]", "up")
    lowest = page.locator("#grid .cell[data-at='0'] a").get_attribute("title")
    assert lowest == best[-1].row_id


def test_the_grid_holds_the_seen_tiles_alone_and_is_walked_by_arrows(show):
    page = show("#images")
    assert page.locator("#grid .cell").count() < 150
    page.evaluate("document.getElementById('grid').scrollTop = 1e6")
    page.wait_for_selector(f"#grid .cell[data-at='{ROWS - 1}']")
    assert page.locator("#grid .cell").count() < 150
    page.evaluate("document.getElementById('grid').scrollTop = 0")
    page.wait_for_selector("#grid .cell[data-at='0'] a")
    page.focus("#grid .cell[data-at='0'] a")
    for key in ("ArrowRight", "ArrowDown", "End"):
        page.keyboard.press(key)
    at = page.evaluate("document.activeElement.parentNode.dataset.at")
    assert int(at) == ROWS - 1
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-view='image']")


def test_an_image_has_its_parts_and_switches_that_change_the_sum(show, rows):
    row = next(row for row in rows if row.right is False)
    page = show(f"#image/{row.row_id.replace('/', '%2F')}")
    text = page.inner_text("#image")
    for words in (row.row_id, row.label, "wrong", row.phrases[0].text, row.slices["camera"],
                  f"rather than {row.label}", "scenes 3.0.0"):  # fmt: skip
        assert words in text
    box = page.locator(".share-box").first
    values = [
        float(value.replace("\N{MINUS SIGN}", "-"))
        for value in box.locator("li .number").all_inner_texts()
    ]  # fmt: skip
    assert sum(values) == pytest.approx(row.target.logit, abs=0.01 * len(values))
    whole = float(box.locator(".total b").inner_text())
    assert whole == pytest.approx(row.target.logit, abs=0.006)
    box.locator("li input").first.uncheck()
    left = float(box.locator(".total b").inner_text().replace("\N{MINUS SIGN}", "-"))
    assert left == pytest.approx(whole - values[0], abs=0.011)
    assert box.locator(".stack .off").count() == 1
    box.locator("button", has_text="All off").click()
    assert float(box.locator(".total b").inner_text()) == 0


def test_switches_change_the_map_and_the_slider_its_strength(show, rows):
    page = show(f"#image/{rows[1].row_id.replace('/', '%2F')}")
    drawn = """() => { const c = document.querySelector('.stage canvas');
        return c.getContext('2d').getImageData(0, 0, 288, 288).data.reduce((s, v) => s + v, 0) }"""
    whole = page.evaluate(drawn)
    page.locator(".share-box button", has_text="All off").first.click()
    assert page.evaluate(drawn) == 0
    page.locator(".share-box li input").first.check()
    assert 0 < page.evaluate(drawn) < whole
    page.locator(".slider input").fill("0.2")
    opacity = page.evaluate("getComputedStyle(document.querySelector('.stage canvas')).opacity")
    assert float(opacity) == pytest.approx(0.2)


def test_neighbours_in_the_list_are_one_key_away(show, rows):
    page = show("#images?label=zebra")
    page.click("#grid .cell[data-at='1'] a")
    page.wait_for_selector("#image h1")
    zebras = [row.row_id for row in rows if row.label == "zebra"]
    assert page.inner_text("#image h1") == zebras[1]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"#image h1:text-is('{zebras[2]}')")
    page.keyboard.press("Escape")
    page.wait_for_selector("html[data-view='images']")
    assert page.url.endswith("#images?label=zebra")
    assert number_of(page) == len(zebras)


def test_a_class_shows_concepts_findings_and_images_at_quantiles(show):
    page = show("#class/0")
    text = page.inner_text("#class")
    for words in ("otter", "green water", "whiskers", "Findings in this class", "light: night"):
        assert words in text
    row = page.locator(".concepts tbody tr", has_text="green water")
    assert row.locator("a.tile").count() == 5
    assert row.locator("svg .range").count() == 1
    order = page.locator(".concepts tbody th").all_inner_texts()
    page.click("button.sorter:has-text('Spread')")
    spreads = page.locator(".concepts tbody td:nth-child(5)").all_inner_texts()
    assert [float(value) for value in spreads] == sorted(map(float, spreads), reverse=True)
    assert sorted(page.locator(".concepts tbody th").all_inner_texts()) == sorted(order)
    page.locator(".share-box li input").first.uncheck()
    assert "switched off" in page.inner_text(".share-box .total")


def test_the_comparison_counts_images_and_leads_to_them(show, rows):
    page = show("#comparison")
    lost = sum(row.right is False for row in rows)
    link = page.locator("#comparison td a[href='#images?other=only-there']")
    assert int(link.inner_text()) == lost
    link.click()
    page.wait_for_selector("#image-count")
    assert number_of(page) == lost


def test_the_page_is_read_without_scripts(show):
    page = show(java_script_enabled=False)
    text = page.inner_text("body")
    for words in ("green water", "dry grass", "+0.90 logits", "at most 5 of 100", "Scripts are off",
                  "striped coat", "IMAGE_UNREADABLE", "permutations"):  # fmt: skip
        assert words in text
    assert page.locator(".finding img").count() == 24
    page.click("#class-table a >> nth=1")
    assert page.url.endswith("#class/1")


def test_a_copy_in_a_folder_of_its_own_works_and_asks_for_nothing(browser, report, tmp_path):
    copy = shutil.copy(report, tmp_path / "letter attachment.html")
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{copy}#images")
    page.wait_for_selector("#grid .cell img")
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [asked[0]]


def test_hostile_names_run_nothing_in_any_view(show, tmp_path):
    bad = "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "constructor"
    classes = (*bad, '" onload="alert(1)', "__proto__")
    concepts = tuple(f"{bad[number % 3]} {number}" for number in range(len(CONCEPTS)))
    given = [
        dataclasses.replace(row, row_id=f"{bad[row.index % 3]}?#%/{row.index}")
        for row in page_rows(60, classes=classes, concepts=concepts, maps=range(60))
    ]
    path = tmp_path / "hostile.html"
    summary = summary_of(given, classes, concepts)
    write_report(path, summary, given, thumbnails(given), classes)
    page = show(path=path)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    assert bad[0] in page.inner_text("#findings")
    for index in range(5):
        page.evaluate(f"location.hash = '#class/{index}'")
        page.locator("#class h1").get_by_text(classes[index], exact=True).wait_for()
    page.evaluate("location.hash = '#images'")
    page.wait_for_selector("#grid .cell")
    page.click("#grid .cell[data-at='1'] a")
    page.wait_for_selector("#image h1")
    assert page.inner_text("#image h1") == given[1].row_id
    page.evaluate("location.hash = '#image/%E0%A4%A'")
    page.wait_for_selector("#image h1:text-is('Not found')")
    assert page.locator("script").count() < 5
    assert not dialogs


def test_colours_follow_the_system_and_the_switch(show):
    page = show(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.keyboard.press("t")
    light = page.evaluate(ground)
    assert light != dark
    page.keyboard.press("t")
    assert page.evaluate(ground) == dark


def luminance(colour):
    parts = [int(own) / 255 for own in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [own / 12.92 if own <= 0.03928 else ((own + 0.055) / 1.055) ** 2.4 for own in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(show, scheme):
    page = show(color_scheme=scheme)
    for selector in (".lead", ".kind", ".facts .ends", "nav a[aria-current]", ".rank", ".links a"):
        found, ground = page.evaluate(
            """selector => { let own = document.querySelector(selector), at = own;
            const colour = getComputedStyle(own).color;
            while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentNode;
            return [colour, getComputedStyle(at).backgroundColor] }""",
            selector,
        )
        low, high = sorted((luminance(found), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_landmarks_and_labels_are_there(show):
    page = show("#images")
    assert page.locator("header, main, nav[aria-label], footer").count() == 4
    unlabelled = """[...document.querySelectorAll('input, select, button')]
        .filter(e => e.type !== 'hidden' && !e.labels?.length && !e.textContent.trim()
            && !e.getAttribute('aria-label')).length"""
    assert page.evaluate(unlabelled) == 0
    assert page.evaluate("document.querySelectorAll('h1:not([hidden] *)').length") == 1
