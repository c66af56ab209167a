"""Files that are whole or not there."""

import pytest
from textcam_client.audit.files import whole_file, write_whole


def test_a_file_takes_its_name_at_the_end(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_what_was_there(tmp_path):
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(TypeError), whole_file(tmp_path / "a") as file:
        file.write("no bytes")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
