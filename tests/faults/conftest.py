"""Faults against real servers: a few of each in `make test`, all of them in `make test-faults`.

Every test takes its counts from `size`; what it measured goes to `figures`, into the table at
the end and, of a whole run, into build/bench/faults.json.
"""

import json
import time
from pathlib import Path

import pytest
from fault_world import build_world

ROOT = Path(__file__).parents[2]
_FIGURES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--whole", action="store_true", help="every fault in its full count")


def pytest_configure(config):
    config.stash[_FIGURES] = {}


@pytest.fixture
def size(request):
    """Chooses a count: size(quick, whole)."""
    whole = request.config.getoption("--whole", default=False)
    return lambda quick, everything: everything if whole else quick


@pytest.fixture
def figures(request):
    """What a test measured, by name; kept even where the test then fails."""
    found = request.config.stash[_FIGURES].setdefault(request.node.name.removeprefix("test_"), {})
    started = time.monotonic()
    yield found
    found["seconds"] = round(time.monotonic() - started, 1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("faults"))


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[_FIGURES]
    if not rows:
        return
    terminalreporter.section("faults")
    for fault, found in rows.items():
        told = ", ".join(f"{name} {value}" for name, value in found.items())
        terminalreporter.write_line(f"{fault}: {told}")
    if config.getoption("--whole", default=False):
        output = ROOT / "build" / "bench" / "faults.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        # A fault that is measured again takes the place of its old figures only.
        kept = json.loads(output.read_text()) if output.is_file() else {}
        output.write_text(json.dumps(kept | rows, indent=1) + "\n")
