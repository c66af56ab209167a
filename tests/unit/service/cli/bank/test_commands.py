"""`textcam bank inspect` and `verify`: what a folder holds, and that it fits."""

import json

import pytest
from commands import run
from model_callers import spoil
from small_models import add_supports, write_model
from textcam_service.artefacts.bank import read_bank


@pytest.fixture
def folder(tmp_path):
    return add_supports(write_model(tmp_path / "model", 0))


def test_a_bank_is_described_in_lines_or_as_json(folder):
    artefact = read_bank(folder / "bank")
    code, said = run("bank", "inspect", folder / "bank")
    assert code == 0, said
    assert f"backbone {artefact.bank.backbone_digest}" in said
    assert "by supports, 9 phrases grounded, probabilities by labels of 77 images" in said
    code, said = run("bank", "inspect", folder / "bank", "--json")
    assert code == 0, said
    manifest = json.loads(said)
    assert manifest["bank_digest"] == artefact.bank_digest
    assert manifest["embedder"] == "small"


def test_a_sound_bank_is_verified_alone_and_with_its_backbone(folder):
    code, said = run("bank", "verify", folder / "bank")
    assert (code, said) == (0, f"{folder / 'bank'}: sound")
    code, said = run("bank", "verify", folder / "bank", "--backbone", folder / "backbone")
    assert code == 0, said
    assert said.endswith(f"sound, and fits {folder / 'backbone'}")


def test_a_bank_of_another_backbone_or_a_spoiled_one_fails(folder, tmp_path):
    other = write_model(tmp_path / "other", 1)
    code, said = run("bank", "verify", folder / "bank", "--backbone", other / "backbone")
    assert code == 1
    assert "sound" not in said
    (tensors,) = (folder / "bank").glob("bank*.safetensors")
    spoil(tensors)
    assert run("bank", "verify", folder / "bank")[0] == 1
