"""Files and messages are data: nothing that the product reads is run."""

import ast
from pathlib import Path

import pytest
from source_tree import imported, modules

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "service" / "textcam_service", ROOT / "client" / "textcam_client"
RUNS_WHAT_IT_READS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def calls(tree):
    """(name, keywords) of each call, as "torch.load", {"weights_only": True}; "?" is no literal."""
    for node in ast.walk(tree):
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
    for package in PACKAGES:
        for name, module in modules(package).items():
            roots = {target.split(".")[0] for target in imported(module)}
            assert not roots & RUNS_WHAT_IT_READS, f"{name}: read JSON or safetensors instead"
            found = [call for call, given in calls(module.tree) if is_unpickling(call, given)]
            assert not found, f"{name} calls {found}: load data alone"
            if "multiprocessing" in roots and ".offline." not in name:
                assert name.rpartition(".")[2] in {"process", "workers"}, name


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
def test_what_would_be_unpickling_is_told_apart(code, refused):
    ((name, given),) = calls(ast.parse(code))
    assert is_unpickling(name, given) == refused
