"""Shares in a user's table of phrases."""

import json

import pytest
from textcam_service.core.rationale.settings import RationaleSettings
from textcam_service.errors import VocabularyError
from textcam_service.offline.banks.attribute_tables import GRADES, matrix, read_phrase_table
from textcam_service.offline.banks.phrases import Tables, default_rationale, imagenet_names

CLASSES = ("Groove billed Ani", "crow, American crow", "gull")


def read(tmp_path, text):
    path = tmp_path / "table.txt"
    path.write_text(text, "utf-8")
    return read_phrase_table(path, CLASSES)


def test_a_percentage_says_in_what_share_of_a_class_a_phrase_is_true(tmp_path):
    table = read(tmp_path, "black wing: Groove billed Ani 87%, crow 62.5 %, 2?\n")
    assert table == {"black wing": {0: 0.87, 1: 0.625, 2: GRADES["~"]}}


def test_a_percentage_may_follow_an_index_or_a_name_with_commas(tmp_path):
    table = read(tmp_path, "black wing: 0 40%; crow, American crow 0%\n")
    assert table == {"black wing": {0: 0.4, 1: 0.0}}


def test_a_percentage_above_100_is_refused_with_its_line(tmp_path):
    with pytest.raises(VocabularyError, match=r"line 2: 'gull 101%' is above 100 %"):
        read(tmp_path, "black wing: gull\nwhite wing: gull 101%\n")


def test_a_table_of_few_own_classes_asks_more_of_the_evidence_and_less_of_the_chance():
    own = {"black wing": {0: 0.87}}
    asked = default_rationale(Tables(own=own), CLASSES)
    assert (asked.min_probability, asked.min_odds) == (0.5, 6.0)
    assert default_rationale(Tables(imagenet=own), CLASSES) == RationaleSettings()
    assert default_rationale(Tables(own=own), imagenet_names()) == RationaleSettings()


def test_letter_case_is_no_matter_for_tables():
    assert matrix({"Tail fin": {1: 0.5}}, ("TAIL FIN", "tree"), 2).tolist() == [[0, 0], [0.5, 0]]


def test_tables_are_kept_as_json_and_the_newer_lines_rule():
    old = Tables(own={"beak": {0: 0.5}, "wing": {1: 0.25}}, imagenet={"fin": {2: 0.87}})
    back = Tables.of(json.loads(json.dumps(old.manifest())))
    assert back == old
    new = Tables(own={"beak": {1: 0.87}})
    assert new.over(back).own == {"beak": {1: 0.87}, "wing": {1: 0.25}}
    assert new.over(back).imagenet == old.imagenet
    assert old.unused(("Beak", "tree")) == ["fin", "wing"]
