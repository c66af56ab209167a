"""Rows of a data set."""

from textcam_client.audit.rows import Row


def test_rows_are_equal_by_what_they_name_and_not_by_how_they_are_read():
    one, other = (Row(0, "a.png", "/data/a.png", "cat", lambda: b"") for _ in range(2))
    assert one == other
    assert one != Row(0, "a.png", "/data/a.png", "dog", one.read)
