"""Generated and documented parts agree with their sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_stubs_are_what_the_contract_generates(tmp_path):
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=True)
    fresh = [path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")]
    assert len(fresh) == 8
    for name in fresh:
        assert (tmp_path / name).read_text() == (ROOT / "protos" / name).read_text(), "make protos"


def test_help_lists_every_target():
    done = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    for target in ("demo", "test", "serve", "bench", "bench-gpu"):
        assert f"make {target}" in done.stdout


@pytest.mark.parametrize("name", ["png.py", "colours.py"])
def test_the_client_reads_image_files_as_the_service_does(name):
    """Neither package imports the other, so that both hold these short modules."""
    service, client = (
        ast.parse((ROOT / folder / name).read_text()).body[1:]
        for folder in ("service/textcam_service/imaging", "client/textcam_client/_image_files")
    )
    unequal = f"make imaging/{name} and the client's _image_files/{name} equal again"
    assert [ast.dump(node) for node in service] == [ast.dump(node) for node in client], unequal
