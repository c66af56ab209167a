"""What the package shows to the world."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import textcam_client
from textcam_client import AsyncClient, Client, errors
from textcam_client.options import ExplainOptions, Options

PACKAGE = Path(textcam_client.__file__).parent


def test_all_is_sorted_and_names_every_public_import():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert textcam_client.__all__ == sorted(textcam_client.__all__)
    assert set(textcam_client.__all__) == imported


def test_every_error_of_the_tree_is_exported_and_drawn():
    classes = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.TextCamClientError)
    }
    assert classes <= set(textcam_client.__all__)
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in classes)


def public_methods(cls: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def test_sync_and_async_clients_take_the_same_arguments():
    sync, aio = public_methods(Client), public_methods(AsyncClient)
    assert sync.keys() == aio.keys()
    for name in sync:
        ours = [(p.name, p.kind, p.default) for p in sync[name].parameters.values()]
        theirs = [(p.name, p.kind, p.default) for p in aio[name].parameters.values()]
        assert ours == theirs, name
    assert (
        str(inspect.signature(Client)).split("->")[0]
        == (str(inspect.signature(AsyncClient)).split("->")[0])
    )


def test_explain_many_takes_the_options_of_explain():
    """ExplainOptions, Options and explain's arguments are written down thrice."""
    explain = set(inspect.signature(Client.explain).parameters) - {"self", "image", "request_id"}
    assert set(ExplainOptions.__annotations__) == explain
    assert set(inspect.signature(Options).parameters) == explain


def test_the_packages_own_example_runs(server, png, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cat.jpg").write_bytes(png)
    blocks = inspect.cleandoc(textcam_client.__doc__).split("\n\n")
    example = "\n\n".join(block for block in blocks if block.startswith("    "))
    logged = []
    exec(
        textwrap.dedent(example).replace("localhost:50051", server.address),
        {"paths": ["cat.jpg"], "log": logged.append},
    )
    assert [len(line["explanations"]) for line in logged] == [2]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "cat-contour.png",
        "cat-explained.png",
        "where.png",
    ]


@pytest.mark.parametrize("module", ["textcam_client", "textcam_client.testing"])
def test_importing_the_client_leaves_the_heavy_half_out(module):
    script = (
        f"import {module}, sys\n"
        "heavy = {'onnxruntime', 'torch', 'torchvision', 'open_clip', 'textcam_service',\n"
        "         'pydantic', 'prometheus_client', 'scipy', 'skimage', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
