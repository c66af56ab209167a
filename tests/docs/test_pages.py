"""The pages are true as far as a machine can tell: links, samples, commands."""

import ast
import importlib
import re
import shlex

import click
import pytest
from pages import ROOT, anchors, blocks, commands, links, pages
from textcam_service.cli import main

PAGES = [path for path in pages() if "site-packages" not in path.parts]
# What history names need not be there any more.
CURRENT = [path for path in PAGES if path.name != "CHANGELOG.md" and "bench" not in path.parts]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page):
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        if named(page) == "docs/api/index.md" or "api/index.md#" in target:
            assert place.exists(), target  # its anchors are made from docstrings
            continue
        assert place.exists(), f"{named(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(place.read_text()), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_python_samples_compile_and_import_names_that_are_there(page):
    for sample in blocks(page.read_text(), "python", "py"):
        for node in ast.walk(ast.parse(sample)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


def resolved(words):
    """Return the options of the command that the words name, and the words after it."""
    command, context, rest = main, click.Context(main), list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None and not re.fullmatch(r"[a-z-]+", name):
            return set(), []  # a placeholder, such as COMMAND
        assert found is not None, f"textcam has no command {name!r}"
        command, context = found, click.Context(found, parent=context, info_name=name)
    # Those of `serve` are made from the settings, and only when they are asked for.
    parameters = command.get_params(context)
    return {"-h", *(option for parameter in parameters for option in parameter.opts)}, rest


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_textcam_commands_and_their_options_are_there(page):
    for line in commands(page.read_text()):
        if not re.match(r"(\.venv/bin/)?textcam [a-zA-Z-]", line):
            continue
        known, rest = resolved(shlex.split(line.split(" # ")[0].replace("...", ""))[1:])
        for word in rest:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{named(page)}: {line}"


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_make_targets_are_there(page):
    for line in commands(page.read_text()):
        found = re.match(r"make ([a-z][a-z -]*)$", line)
        for target in found[1].split() if found else ():
            assert target in TARGETS, f"{named(page)}: {line}"


def test_pictures_of_the_docs_are_shown_somewhere():
    shown = "".join(path.read_text() for path in PAGES)
    for picture in (*ROOT.glob("docs/*.png"), *ROOT.glob("docs/*.svg")):
        assert picture.name in shown, f"no page shows docs/{picture.name}"


def test_the_readme_is_read_at_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
