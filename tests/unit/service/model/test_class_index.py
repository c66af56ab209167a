"""Class names: letter case, misspellings, and names of any length."""

import time

import pytest
from textcam_service.errors import UnknownClass
from textcam_service.model.class_index import ClassIndex

CATS = "Tabby", "Tiger cat", "lynx", "coffee mug", "rocket"


def test_names_that_differ_in_letter_case_alone_are_told_apart():
    classes = ClassIndex(("Turkey", "turkey", "lynx "), "m")
    found = [classes.find(name, "target") for name in ("Turkey", " turkey", "LYNX", "lynx ")]
    assert found == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("taby", "near it: Tabby"),
        ("tiger kat", "near it: Tiger cat"),
        ("cat", "near it: Tiger cat"),  # a word of a name
        ("TABYB", "near it: Tabby"),
    ],
)
def test_a_class_that_is_misspelt_is_refused_with_the_names_near_it(wrong, near):
    with pytest.raises(UnknownClass, match=near) as refused:
        ClassIndex(CATS, "pets").find(wrong, "targets.classes[0].name")
    assert "model 'pets'" in str(refused.value)
    assert "lists all 5; an index will do" in str(refused.value)
    assert refused.value.field == "targets.classes[0].name"


def test_where_no_name_is_near_none_is_offered():
    with pytest.raises(UnknownClass) as refused:
        ClassIndex(CATS, "m").find("zebra", "target")
    assert "near it" not in str(refused.value)


def test_a_name_of_millions_of_letters_is_refused_at_once_and_shortly():
    classes = ClassIndex([f"class {index}" for index in range(1000)], "m")
    begun = time.process_time()
    with pytest.raises(UnknownClass) as refused:
        classes.find("zebra finch " * 1_000_000, "target")
    assert time.process_time() - begun < 2  # each of its words would be looked for
    assert len(str(refused.value)) < 500
