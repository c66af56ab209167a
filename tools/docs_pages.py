"""Hooks of the documentation site: pages that live elsewhere in the repository.

The operations guide, the security page and others stand where readers of the repository look for
them. The site shows the same files. Links between files follow their paths in the repository, so
that they work there too; here they are rewritten to the site's pages. A link to a file that is no
page becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "deploy/README.md": "operations.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "tests/bench/RESULTS.md": "benchmarks.md",
    "tests/zoo/RESULTS.md": "zoo.md",
}
"""Path in the repository, and page of the site."""

_SOURCES = {page: path for path, page in PAGES.items()}
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live elsewhere."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite a page's links to files of the repository."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, page: str) -> str:
    """Return a page's Markdown with links for the site; code blocks stay as they are."""
    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _link(link, page), part) for part in parts[::2]]
    return "".join(parts)


def _link(link: re.Match[str], page: str) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    source = _SOURCES.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGES:
        place = PAGES[path]
    elif path.startswith("docs/"):
        place = path.removeprefix("docs/")
    elif (ROOT / path).exists():
        return text if text.startswith("`") else f"{text} (`{path}`)"
    else:
        return link[0]  # broken: the strict build reports it
    return f"[{text}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"
