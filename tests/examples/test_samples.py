"""The pages' Python samples do what the pages say, against a real server."""

import subprocess
import sys

import pytest
from pages import ROOT, blocks
from PIL import Image
from processes import BACKBONE, PHOTOS, running

ADDRESS = "127.0.0.1:50051"
PAGES = ("README.md", "docs/quickstart.md", "docs/client.md", "docs/errors.md")
SAMPLES = [
    pytest.param(sample, id=f"{page}-{number}")
    for page in PAGES
    for number, sample in enumerate(blocks((ROOT / page).read_text(), "python"))
    if ADDRESS in sample
]


@pytest.fixture(scope="module")
def server():
    assert (BACKBONE / "backbone.json").is_file(), "run `make test`, which exports the backbone"
    with running() as started:
        yield started.address


@pytest.fixture
def folder(tmp_path):
    """A user's folder with the pictures that the samples name."""
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "a.jpg", "b.jpg", "photos/1.jpg", "photos/2.jpg"):
        with Image.open(PHOTOS / "chelsea.png") as photo:
            photo.save(tmp_path / name)
    return tmp_path


def test_there_are_samples():
    assert len(SAMPLES) >= len(PAGES)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_runs(server, folder, sample):
    code = sample.replace(ADDRESS, server)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
