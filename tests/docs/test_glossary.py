"""docs/glossary.md uses the code's words."""

import re

import pytest
from pages import ROOT

ROWS = re.findall(
    r"^\| (?!term|---)(.+?) \| (.*?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
)
SOURCES = [*ROOT.glob("service/**/*.py"), *ROOT.glob("client/**/*.py")]
CODE = "\n".join(path.read_text() for path in SOURCES)
WORDS = set(re.findall(r"\w+", CODE)) | {path.parent.name for path in SOURCES}


@pytest.mark.parametrize(("term", "code"), ROWS)
def test_a_term_has_its_name_in_the_code(term, code):
    for name in re.findall(r"`([^`]+)`", code):
        for word in re.findall(r"\w+", name):
            assert word in WORDS, f"{term}: no {name} in the code"


def test_terms_are_in_order():
    page = (ROOT / "docs" / "glossary.md").read_text()
    for section in page.split("\n## ")[1:]:
        terms = re.findall(r"^\| (?!term|---)(.+?) \|", section, re.MULTILINE)
        assert terms == sorted(terms, key=str.lower)
