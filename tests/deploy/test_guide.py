"""deploy/README.md and SECURITY.md against the code."""

import re
import subprocess
import sys

from deployed import DEPLOY, ROOT


def test_the_tables_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "guide_tables.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_and_metric_has_a_meaning():
    rows = [line for line in (DEPLOY / "README.md").read_text().splitlines() if line[:3] == "| `"]
    assert len(rows) > 30
    assert not [row for row in rows if row.endswith("|  |")]


def test_the_threat_model_names_tests_that_are_there():
    """ "test_x_..." is the beginning of a name."""
    text = (ROOT / "SECURITY.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)(\.\.\.)?`", text)
    assert len(named) > 10
    for name, cut in named:
        assert f"def {name}" + ("" if cut else "(") in tests, name
    rooms = re.findall(r"\b(?:\w+/)+test_\w+\b", re.sub(r"`[^`]*`", "", text))
    assert len(rooms) > 10
    for room in rooms:
        path = room if room.startswith("tests/") else f"tests/integration/{room}"
        assert (ROOT / f"{path}.py").is_file(), path
