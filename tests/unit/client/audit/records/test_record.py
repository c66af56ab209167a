"""Record of a row."""

from textcam_client.audit.records.record import Record


def test_a_record_shows_no_thumbnail_in_words():
    record = Record(0, "a", "/a", "", None, None, {}, thumbnail=b"picture")
    assert "picture" not in repr(record)
