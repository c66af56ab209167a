"""Sizes: rooms, modules and functions stay small enough to be read at once."""

import ast
from itertools import chain
from pathlib import Path

import pytest
from source_tree import folders, functions, modules

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "service" / "textcam_service", ROOT / "client" / "textcam_client"

MAX_MODULES, MAX_LINES, MAX_BODY_LINES, MAX_PARAMETERS = 12, 300, 40, 7

# Each with its reason.
LARGE_FOLDERS: dict[str, str] = {}
LONG_MODULES = {
    "textcam_service.errors": "one table of all errors",
    "textcam_service.serving.batching.batcher": "one state machine: slots, consumer and supervisor",
    "textcam_service.settings": "one table of all settings",
}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS = {
    "textcam_service.offline.export.from_torch.head_vjp:_Decompositions._attend": "torch's",
    "textcam_service.offline.export.from_torch.head_vjp:_convolution_backward": "ATen's signature",
    "textcam_service.offline.export.from_torch.translatable:attend": "torch's signature",
    "textcam_client._base:ClientBase.__init__": "one keyword per setting",
    "textcam_client.aio:AsyncClient.explain": "one keyword per option of a request",
    "textcam_client.client:Client.explain": "one keyword per option of a request",
    "textcam_client.options:settings": "one keyword per setting",
    "textcam_client.testing.server:serve_in_memory": "one keyword per property of the model",
}


def known():
    return chain.from_iterable(modules(package).items() for package in PACKAGES)


def is_command(function):
    """A click command takes an argument for each option."""
    return any(".command(" in ast.unparse(own) for own in function.node.decorator_list)


def too_large():
    return {
        folder: f"{len(names)} modules"
        for package in PACKAGES
        for folder, names in folders(modules(package)).items()
        if len(names) > MAX_MODULES
    }


def too_long():
    return {name: f"{m.lines} lines" for name, m in known() if m.lines > MAX_LINES}


def too_long_functions():
    return {
        f"{name}:{function.name}": f"{function.body_lines} body lines"
        for name, module in known()
        for function in functions(module)
        if not is_command(function)
        if function.body_lines > MAX_BODY_LINES
    }


def too_many_parameters():
    return {
        f"{name}:{function.name}": f"{function.parameters} parameters"
        for name, module in known()
        for function in functions(module)
        if not is_command(function)
        if function.parameters > MAX_PARAMETERS
    }


@pytest.mark.parametrize(
    ("found", "excepted", "mend"),
    [
        (too_large(), LARGE_FOLDERS, f"more than {MAX_MODULES}: make a room by responsibility"),
        (too_long(), LONG_MODULES, f"more than {MAX_LINES}: divide it by subject"),
        (too_long_functions(), LONG_FUNCTIONS, f"more than {MAX_BODY_LINES}: name its steps"),
        (too_many_parameters(), MANY_PARAMETERS, f"more than {MAX_PARAMETERS}: group them"),
    ],
    ids=["folders", "modules", "functions", "parameters"],
)
def test_nothing_grows_too_large(found, excepted, mend):
    new = [f"{name}: {size}" for name, size in found.items() if name not in excepted]
    assert not new, "\n  ".join([mend, *new])
    needless = sorted(set(excepted) - set(found))
    assert not needless, f"small enough now; remove from the list of exceptions: {needless}"
