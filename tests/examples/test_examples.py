"""The examples, as a user runs them, against a real server on loopback."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from processes import BACKBONE, PHOTOS, ROOT, running

CAT = PHOTOS / "chelsea.png"
COFFEE = PHOTOS / "coffee.png"


@pytest.fixture(scope="module")
def server():
    assert (BACKBONE / "backbone.json").is_file(), "run `make test`, which exports the backbone"
    with running() as started:
        yield started.address


def run(name, server, *words, status=0):
    command = [sys.executable, ROOT / "examples" / name, *words, "--server", server]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_one_image_is_explained_in_words_and_drawn(server, tmp_path):
    picture = tmp_path / "cat.png"
    said = run("explain_one.py", server, CAT, "--output", picture)
    assert "cat" in said.splitlines()[0]
    assert "% likely, " in said
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 100


def test_an_audit_has_a_line_for_each_image_also_for_one_that_fails(server, tmp_path):
    for photo in (CAT, COFFEE):
        shutil.copy(photo, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    lines = run("audit_folder.py", server, tmp_path, status=1).splitlines()
    broken, cat, coffee = map(json.loads, lines)
    assert broken["file"].endswith("broken.jpg")
    assert "error" in broken
    assert "cat" in cat["class"]
    assert all(0 <= chance <= 1 for chance in cat["phrases"].values())
    assert coffee["sentence"]
    assert coffee["model"].startswith("photos ")


def test_tritonclient_gets_classes_phrases_and_maps(server):
    said = run("triton_client.py", server, CAT, COFFEE).splitlines()
    assert said[0].startswith("chelsea.png: ")
    assert "cat" in said[0]
    assert "strongest in cell" in said[1]
    assert said[2].startswith("coffee.png: ")


def test_masks_are_written_as_pictures_and_run_lengths(server, tmp_path):
    run("masks.py", server, CAT, "--output", tmp_path)
    with Image.open(CAT) as photo, Image.open(tmp_path / "labels.png") as labels:
        assert labels.size == photo.size
        found = np.asarray(labels)
    first, second = json.loads((tmp_path / "regions.json").read_text())
    assert first["pixels"] == (found == 1).sum() > 0
    assert second["pixels"] == (found == 2).sum()
    assert first["segmentation"]["size"] == list(found.shape)
    assert all(len(box) == 4 for box in first["boxes"])


def test_every_example_is_run_here():
    here = (ROOT / "tests" / "examples" / "test_examples.py").read_text()
    for example in (ROOT / "examples").glob("*.py"):
        assert f'run("{example.name}"' in here, example.name
