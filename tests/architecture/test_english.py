"""English: docstrings begin as CONTRIBUTING.md asks, with a verb or a noun of the field."""

import ast
import re
from pathlib import Path

from source_tree import Module, docstrings, first_line, modules

ROOT = Path(__file__).parents[2]
FOLDERS = [
    ROOT / "service" / "textcam_service",
    ROOT / "client" / "textcam_client",
    ROOT / "tools",
    ROOT / "examples",
]
SCRIPTS = [ROOT / "protos" / "generate.py"]

INDIRECT = re.compile(
    r"(What|Who|Whom|Whose|Whoever|Whether|Where|Which|Of|As|Told|Tells|How|Likewise|Nobody)\b"
)


def sources():
    for folder in FOLDERS:
        if folder.is_dir():
            yield from modules(folder).values()
    for path in SCRIPTS:
        text = path.read_text()
        yield Module(path.stem, path, text, ast.parse(text))


def indirect():
    """Places of first lines that have to be decoded."""
    for module in sources():
        path = module.path.relative_to(ROOT).as_posix()
        for line, text in docstrings(module):
            if INDIRECT.match(first_line(text)):
                yield f"{path}:{line}: {first_line(text)}"


def test_docstrings_begin_with_a_verb_or_a_noun():
    found = list(indirect())
    assert not found, "\n  ".join(
        ['begin functions with a verb ("Return True if ..."), classes with a noun:', *found]
    )
