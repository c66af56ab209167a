"""Survey of a data set."""

import dataclasses

import pytest
from textcam_client.audit.datasets import survey as module
from textcam_client.audit.datasets.survey import row_key, survey
from textcam_client.audit.errors import DataSetError
from textcam_client.audit.rows import Row


class Listed:
    name = "data"

    def __init__(self, *ids, **changes):
        self._rows = [
            dataclasses.replace(Row(i, one, f"/{one}", "cat", lambda: b""), **changes)
            for i, one in enumerate(ids)
        ]

    def rows(self):
        return iter(self._rows)


def test_the_fingerprint_changes_with_ids_order_labels_and_slices():
    sets = [
        Listed("a", "b"),
        Listed("b", "a"),
        Listed("a", "c"),
        Listed("a", "b", label="dog"),
        Listed("a", "b", slices={"light": "day"}),
        Listed("a", "b", read_mask=lambda: b""),
    ]
    found = [survey(one) for one in sets]
    assert len({one.fingerprint for one in found}) == len(sets)
    assert survey(sets[0]) == found[0]
    assert [one.rows for one in found] == [2] * len(sets)
    assert (found[4].slices, found[5].masks) == (("light",), True)


def test_two_rows_of_one_id_are_refused_and_both_are_named():
    with pytest.raises(DataSetError, match=r"rows 1 and 3 of data have the same id 'a'"):
        survey(Listed("a", "b", "a"))


def test_two_ids_of_one_hash_are_no_duplicates(monkeypatch):
    monkeypatch.setattr(module, "row_key", lambda row_id: 0)
    assert survey(Listed("a", "b")).rows == 2


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataSetError, match="data has no images"):
        survey(Listed())


def test_keys_of_rows_are_the_same_in_every_audit():
    assert row_key("a") == row_key("a") != row_key("b")
    assert -(2**63) <= row_key("a") < 2**63
