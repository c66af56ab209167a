"""The serving benchmark's quick slice: nothing of speed, but what must hold at any speed."""

import json
import subprocess
import sys

import pytest
from processes import ROOT

WRONG = ("failed", "stray", "hung")


@pytest.fixture(scope="module")
def found(backbone_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("bench") / "serve.json"
    command = [sys.executable, "tests/bench/bench_serve.py", "--quick", "--output", str(output)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def levels(found):
    return [*found["closed"], found["open"], found["crowded"]]


def test_every_answer_belongs_to_its_own_image_and_nothing_hangs(found):
    for level in levels(found):
        assert level["distinct_images"] == level["images"] > 8
        assert level["whole_level"]["ok"] > 0
        assert not any(level["whole_level"][outcome] for outcome in WRONG), level["errors"]


def test_a_crowd_at_a_small_server_is_refused_with_a_hint(found):
    crowd = found["crowded"]["whole_level"]
    assert crowd["refused"] == crowd["refused_with_hint"] > 0
    assert all(level["whole_level"]["refused"] == 0 for level in found["closed"])


def test_resources_and_the_bare_loop_are_measured(found):
    assert [one["batch"] for one in found["floor"]] == [1, 8]
    assert all(one["throughput"] > 0 for one in found["floor"])
    assert all(level["memory_mib"] > 50 for level in levels(found))
    assert sum(level["server_cpu_ms"] for level in levels(found)) > 0
