"""The contracts: buf's style for ours, and no break of what was released."""

import importlib.util
import json
import subprocess

import pytest
from deployed import ROOT, tool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

PROTOS = ROOT / "protos"
# Others' contracts have others' style.
OURS = ("--path", "textcam/v1")
SERVED = ("--path", "textcam")


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("generate", PROTOS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    path = tmp_path_factory.mktemp("contract") / "now.binpb"
    generate.describe(path, comments=True)
    return path


def buf(*arguments):
    return subprocess.run(
        [tool("buf"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_contract_is_in_bufs_style(contract):
    config = json.dumps({"version": "v2", "lint": {"use": ["STANDARD"]}})
    done = buf("lint", contract, *OURS, "--config", config)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_contracts_break_no_released_one(contract):
    done = buf("breaking", contract, "--against", PROTOS / "released.binpb", *SERVED)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ["ExplainRequest", "Phrase"])
@pytest.mark.parametrize("change", ["number", "removal", "type"])
def test_a_break_would_be_found(contract, tmp_path, change, name):
    files = FileDescriptorSet.FromString(contract.read_bytes())
    ours = [file for file in files.file if file.package == "textcam.v1"]
    (message,) = (each for file in ours for each in file.message_type if each.name == name)
    if change == "number":
        message.field[0].number = 900
    elif change == "removal":
        del message.field[0]
    else:
        message.field[0].type = message.field[0].TYPE_BOOL
        message.field[0].ClearField("type_name")
    broken = tmp_path / "broken.binpb"
    broken.write_bytes(files.SerializeToString())
    done = buf("breaking", broken, "--against", PROTOS / "released.binpb", *SERVED)
    assert done.returncode == 100, done.stderr
    assert name in done.stdout
