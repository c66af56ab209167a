"""Model bundles: versions, and settings that a bank cannot have."""

import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from small_models import write_model
from textcam_service.artefacts.bank import Vocabulary, read_bank, write_bank
from textcam_service.cli import main
from textcam_service.errors import ArtefactCorrupt
from textcam_service.model.bundle import ModelBundle
from textcam_service.store.models import ModelStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), 1)


def version(folder):
    return ModelBundle.load("m", folder / "backbone", folder / "bank").version


def test_a_bundle_has_one_version_served_from_folders_or_published(folder, tmp_path):
    published = ModelStore(tmp_path).publish("m", folder / "backbone", folder / "bank")
    assert version(folder) == published
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert version(copy) == published


def test_another_vocabulary_or_backbone_is_another_version(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "vocabulary")
    own = read_bank(folder / "bank")
    fewer = Vocabulary(own.vocabulary.phrases[:6], own.vocabulary.embeddings[:6], "small")
    write_bank(other / "bank", own.bank, fewer)
    assert read_bank(other / "bank").bank_digest == own.bank_digest
    versions = {version(folder), version(other), version(write_model(tmp_path / "backbone", 2))}
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("rationale", "said"),
    [({"wit": 1}, "'wit'"), ({"prior": float("nan")}, "prior is a finite"), ({"prior": "0"}, "'<")],
)
def test_settings_that_a_bank_cannot_have_are_refused_in_words(folder, rationale, said, tmp_path):
    own = read_bank(folder / "bank")
    bank = replace(own.bank, parameters={**own.bank.parameters, "rationale": rationale})
    write_bank(tmp_path / "bank", bank, own.vocabulary)
    with pytest.raises(ArtefactCorrupt, match=f"rationale settings .*{said}.*build it again"):
        ModelBundle.load("m", folder / "backbone", tmp_path / "bank")
    done = CliRunner().invoke(main, ["bank", "verify", str(tmp_path / "bank")])
    assert done.exit_code == 1


def test_a_bank_is_summed_up_with_its_vocabulary_s_digest(folder):
    done = CliRunner().invoke(main, ["bank", "inspect", str(folder / "bank")])
    own = read_bank(folder / "bank")
    told = f"9 phrases, bank {own.bank_digest[:19]}, vocabulary {own.vocabulary_digest[:19]}"
    assert told in done.output
