"""Lines about a bank: sizes, calibration, and what a user should mend."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_models import CHANNELS, EMBEDDING, add_supports, write_model
from textcam_service.artefacts.bank import read_bank
from textcam_service.cli.bank.report import (
    print_calibration,
    print_ungrounded,
    print_unused,
    summary,
)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return read_bank(add_supports(write_model(tmp_path_factory.mktemp("made"), 0)) / "bank")


def changed(artefact, parameters=None, **calibration):
    """The bank with other parameters, and with other data of its calibration."""
    supports = artefact.bank.supports
    supports = replace(supports, calibration=replace(supports.calibration, **calibration))
    bank = replace(artefact.bank, supports=supports, parameters=parameters or {})
    return replace(artefact, bank=bank)


def test_a_bank_is_summed_up_in_sizes_and_digests(artefact):
    said = summary(artefact)
    assert said.startswith(f"{CHANNELS} channels (0 dead) x {EMBEDDING} dimensions, 9 phrases, ")
    assert f"bank {artefact.bank_digest[:19]}, vocabulary {artefact.vocabulary_digest[:19]}" in said


def test_a_sound_calibration_is_one_line(artefact, capsys):
    print_calibration(changed(artefact, {"recognition": 0.9}, images=1000))
    told = capsys.readouterr()
    assert told.out.startswith("probabilities by labels of 1000 images: expected calibration ")
    assert told.err == ""


@pytest.mark.parametrize(
    ("parameters", "calibration", "said"),
    [
        ({}, {"images": 299}, "299 probing images are few"),
        ({"recognition": 0.55}, {"images": 1000}, "by their names (0.55; chance: 0.50)"),
    ],
    ids=["few images", "no recognition"],
)
def test_weak_data_is_warned_of(artefact, parameters, calibration, said, capsys):
    print_calibration(changed(artefact, parameters, **calibration))
    assert said in capsys.readouterr().err


def test_phrases_that_nothing_grounds_are_named_up_to_ten(artefact, capsys):
    grounded = artefact.bank.supports.calibration.grounded.copy()
    grounded[2] = False
    print_calibration(changed(artefact, images=1000, grounded=grounded))
    assert "no source grounds 1 of the phrases" in capsys.readouterr().err
    print_ungrounded([f"p{index}" for index in range(12)])
    told = capsys.readouterr().err
    assert "p9 ..." in told
    assert "p10" not in told
    print_ungrounded([])
    assert capsys.readouterr().err == ""


def test_a_bank_without_supports_says_nothing(artefact, capsys):
    print_calibration(replace(artefact, bank=replace(artefact.bank, supports=None)))
    assert capsys.readouterr() == ("", "")


def test_phrases_of_the_table_that_the_vocabulary_lacks_are_told(capsys):
    tables = SimpleNamespace(unused=lambda phrases: [p for p in ("fur", "fin") if p not in phrases])
    print_unused(tables, ["fur"])
    assert "the table has 1 phrases that the vocabulary lacks: fin" in capsys.readouterr().err
    print_unused(tables, ["fur", "fin"])
    print_unused(None, [])
    assert capsys.readouterr().err == ""
