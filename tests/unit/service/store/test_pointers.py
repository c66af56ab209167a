"""The current version of a name and its history."""

import pytest
from textcam_service.errors import ArtefactCorrupt
from textcam_service.store.pointers import Pointer


def test_a_pointer_is_read_back_as_written():
    pointer = Pointer("3", ("1", "2"), accept_drift=True)
    assert Pointer.from_json(pointer.to_json(), "p") == pointer
    assert b"accept_drift" not in Pointer("3").to_json()


def test_a_version_that_is_current_already_enters_no_history():
    pointer = Pointer("1").followed_by("2", False)
    assert pointer == Pointer("2", ("1",))
    assert pointer.followed_by("2", True) == Pointer("2", ("1",), accept_drift=True)


def test_a_roll_back_forgets_what_came_later_and_is_taken_without_comparing():
    pointer = Pointer("4", ("1", "2", "1", "3"))
    assert pointer.rolled_back_to("1") == Pointer("1", ("1", "2"), accept_drift=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"version": "1"}', b'{"version": "../1", "history": []}', b'{"history": []}'],
)
def test_a_file_that_names_no_version_is_refused_with_its_path(content):
    with pytest.raises(ArtefactCorrupt, match=r"m/current\.json does not name a version"):
        Pointer.from_json(content, "m/current.json")
