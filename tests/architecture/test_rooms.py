"""Who may import whom, and what the generated and documented parts must agree on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "service" / "textcam_service"
TORCH = {"torch", "torchvision", "open_clip", "timm"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_torch_is_only_in_the_offline_half():
    for path in SERVICE.rglob("*.py"):
        if "offline" not in path.parts:
            assert not {name.split(".")[0] for name in imports(path)} & TORCH, path


def test_core_imports_numpy_and_itself_alone():
    allowed = {
        "numpy",
        "textcam_service.core",
        "__future__",
        "collections",
        "dataclasses",
        "enum",
        "typing",
    }
    for path in (SERVICE / "core").rglob("*.py"):
        for name in imports(path):
            roots = {name.split(".")[0], ".".join(name.split(".")[:2])}
            assert roots & allowed, f"{path.name} imports {name}"


def test_the_client_never_imports_the_service():
    for path in (ROOT / "client").rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith("textcam_service")], path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("textcam_service.serving.server", ["torch", "torchvision", "open_clip"]),
        ("textcam_client", ["torch", "onnxruntime", "textcam_service"]),
        ("textcam_service.cli", ["torch", "onnxruntime", "pydantic"]),
    ],
)
def test_importing_leaves_the_heavy_packages_out(module, absent):
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stubs_are_what_the_contract_generates(tmp_path):
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=True)
    fresh = [path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")]
    assert len(fresh) == 6
    for name in fresh:
        assert (tmp_path / name).read_text() == (ROOT / "protos" / name).read_text(), "make protos"


def test_help_lists_every_target():
    done = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    for target in ("demo", "test", "serve", "bench"):
        assert f"make {target}" in done.stdout
