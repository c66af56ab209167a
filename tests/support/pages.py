"""Markdown pages of the repository: their links and their samples of code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def pages() -> list[Path]:
    """List every Markdown page that is, or is to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if listed.returncode == 0:
        found = {ROOT / name for name in listed.stdout.split("\n") if name}
    else:  # an unpacked source archive
        skipped = {".venv", "build"}
        found = {
            path for path in ROOT.rglob("*.md") if not skipped & set(path.relative_to(ROOT).parts)
        }
    return sorted(path for path in found if path.is_file())


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """List the targets of a page's links and pictures within the repository."""
    found = _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site make them."""
    slugs = set()
    for heading in _HEADING.findall(prose(text)):
        words = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
        slugs.add(words.replace(" ", "-"))
        slugs.add(re.sub(r"[-\s]+", "-", words).strip("-"))
    return slugs


def blocks(text: str, *languages: str) -> list[str]:
    """List a page's code blocks in one of the languages, without their indentation."""
    return [
        re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        for indent, language, body in _FENCE.findall(text)
        if language in languages
    ]


def commands(text: str) -> Iterator[str]:
    """Yield a page's commands: lines of shell blocks, indented lines, inline code."""
    for block in blocks(text, "sh", "bash", "console"):
        yield from block.replace("\\\n", " ").splitlines()
    bare = prose(text).replace("\\\n", " ")
    yield from (line.strip() for line in re.findall(r"^ {4,}(\S.*)$", bare, re.MULTILINE))
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", bare))
