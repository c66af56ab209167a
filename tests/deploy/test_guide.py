"""deploy/README.md against the code."""

import subprocess
import sys

from deployed import DEPLOY, ROOT


def test_the_tables_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, DEPLOY / "tables.py", "--check"],
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
