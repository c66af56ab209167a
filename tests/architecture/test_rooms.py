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
        "functools",
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
    assert len(fresh) == 8
    for name in fresh:
        assert (tmp_path / name).read_text() == (ROOT / "protos" / name).read_text(), "make protos"


def test_help_lists_every_target():
    done = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True)
    for target in ("demo", "test", "serve", "bench", "bench-gpu"):
        assert f"make {target}" in done.stdout


RUNS_WHAT_IT_READS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def calls(path):
    """(name, keywords) of each call, as "torch.load", {"weights_only": True}; "?" is no literal."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            given = {
                word.arg: word.value.value if isinstance(word.value, ast.Constant) else "?"
                for word in node.keywords
            }
            yield ast.unparse(node.func), given


def is_unpickling(name, given):
    last = name.split(".")[-1]
    if name in {"torch.load", "torch.hub.load"} or last == "load_state_dict_from_url":
        return given.get("weights_only") is not True
    return name in {"eval", "exec", "yaml.load"} or given.get("allow_pickle", False) is not False


def test_nothing_is_unpickled():
    """Files and messages are data; only pipes between the server's own processes are pickles."""
    for path in (*SERVICE.rglob("*.py"), *(ROOT / "client").rglob("*.py")):
        imported = {name.split(".")[0] for name in imports(path)}
        assert not imported & RUNS_WHAT_IT_READS, path
        assert [name for name, given in calls(path) if is_unpickling(name, given)] == [], path
        if "multiprocessing" in imported and "offline" not in path.parts:
            assert path.name in {"server.py", "workers.py"}


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("torch.load(p)", True),
        ("torch.load(p, weights_only=False)", True),
        ("torch.load(p, weights_only=True)", False),
        ("np.load(p)", False),
        ("np.load(p, allow_pickle=True)", True),
        ("np.load(p, allow_pickle=maybe)", True),
        ("eval(text)", True),
        ("model.eval()", False),
    ],
)
def test_what_would_be_unpickling_is_told_apart(tmp_path, code, refused):
    (tmp_path / "x.py").write_text(code)
    ((name, given),) = calls(tmp_path / "x.py")
    assert is_unpickling(name, given) == refused
