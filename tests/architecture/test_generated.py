"""Generated and documented parts agree with their sources."""

import ast
import subprocess
import sys
from pathlib import Path

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


def test_the_client_reads_png_files_as_the_service_does():
    """Neither package imports the other, so that both hold this short module."""
    service, client = (
        ast.parse((ROOT / path).read_text()).body[1:]
        for path in (
            "service/textcam_service/imaging/png.py",
            "client/textcam_client/_image_files/png.py",
        )
    )
    unequal = "make imaging/png.py and the client's _image_files/png.py equal again"
    assert [ast.dump(node) for node in service] == [ast.dump(node) for node in client], unequal
